"""Faster R-CNN, ResNet-50-FPN: the whole network is the backbone; SyncBN in it and in the pyramid, nothing frozen.

What does not differ from the C4 detector is taken from there.
"""

_base_ = ["./faster-rcnn_c4.py"]

norm_cfg = dict(type="SyncBN", requires_grad=True)

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),  # so that every level is half the one before
    backbone=dict(num_stages=4, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), out_indices=(0, 1, 2, 3)),
    neck=dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5, norm_cfg=norm_cfg),
    rpn_head=dict(
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(scales=[8], strides=[4, 8, 16, 32, 64]),  # one size a level: 32 to 512 pixels
    ),
    roi_head=dict(
        shared_head=None,
        bbox_roi_extractor=dict(roi_layer=dict(output_size=7), out_channels=256, featmap_strides=[4, 8, 16, 32]),
        bbox_head=dict(
            type="Shared2FCBBoxHead", with_avg_pool=False, in_channels=256, fc_out_channels=1024, roi_feat_size=7
        ),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=2000, max_per_img=1000)),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=1000)),
)
