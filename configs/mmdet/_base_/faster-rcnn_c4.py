"""Faster R-CNN, ResNet-50-C4: stages 1 to 3 are the backbone, stage 4 runs on every RoI, with one more norm behind it.

Detectron2's R50-C4 with the changes that MoCo's detection protocol makes for torchvision-style weights: RGB, std not
1, the stride in the 3x3 convolution, nothing frozen, SyncBN everywhere in training mode, a norm after stage 4. The
detector is that of MMDetection's own faster-rcnn_r50-caffe-c4.py but for what
tests/transfer/mmdet/test_recipes_mmdet_shipped.py lists, each with its reason.
"""

norm_cfg = dict(type="SyncBN", requires_grad=True)
box_coder = dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4)
l1 = dict(type="L1Loss", loss_weight=1.0)

model = dict(
    type="FasterRCNN",
    # Here, not at the top level, where it would count for a model without one only. The card replaces mean and std.
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1,  # as Detectron2 without a pyramid: no more than the largest picture of the batch needs
    ),
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style="pytorch",
    ),
    rpn_head=dict(
        type="RPNHead",
        in_channels=1024,
        feat_channels=1024,
        anchor_generator=dict(
            type="AnchorGenerator",
            scales=[2, 4, 8, 16, 32],  # times the stride: 32 to 512 pixels
            ratios=[0.5, 1.0, 2.0],
            strides=[16],
        ),
        bbox_coder=dict(target_stds=[1.0] * 4, **box_coder),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=l1,
    ),
    roi_head=dict(
        type="StandardRoIHead",
        shared_head=dict(
            type="ResLayerExtraNorm",
            depth=50,
            stage=3,
            stride=2,
            style="pytorch",
            norm_cfg=norm_cfg,
            norm_eval=False,
        ),
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=1024,
            featmap_strides=[16],
        ),
        bbox_head=dict(
            type="BBoxHead",
            with_avg_pool=True,
            roi_feat_size=7,
            in_channels=2048,
            num_classes=80,
            bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2], **box_coder),
            reg_class_agnostic=False,
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
            loss_bbox=l1,
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                # Each object gets its best anchor, however small the overlap; only a box without an area gets none.
                min_pos_iou=1e-6,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type="RandomSampler", num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(nms_pre=12000, max_per_img=2000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=6000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
    ),
)
