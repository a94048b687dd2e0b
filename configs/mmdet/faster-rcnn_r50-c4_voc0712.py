"""Pascal VOC, 24k iterations: the protocol of MoCo, which AutoMix's Table 7 follows through OpenMixup.

What:     Faster R-CNN R50-C4; training on VOC 2007 + 2012 trainval (16,551 images), test on VOC 2007 test, 11 points.
Expected: AP50 81.3, AP 53.5, AP75 58.8 from supervised torchvision weights (MoCo v1, Table 2, Detectron2). A table's
          "mAP" for VOC is AP50. MoCo gives a standard deviation of 0.2 AP50 over five trials: report several seeds.
          Not yet measured with this configuration.
Cost:     8 GPUs; MoCo's run in Detectron2 takes about 9 hours of 8 V100 (the 24k schedule). On a CPU: weeks.
Command:  torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-c4_voc0712.py \
              --weights OUT.pth --data-root data --launcher pytorch
          OUT.pth: python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head c4
"""

_base_ = ["./_base_/faster-rcnn_c4.py", "./_base_/sgd.py", "./_base_/runtime.py"]

data_root = "{{$DATA_ROOT:data}}/"
data_name = "VOC 2007 test"

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))

train_pipeline = [
    dict(type="LoadCheckedImage"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomChoiceResize", scales=[(1333, side) for side in range(480, 801, 32)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadCheckedImage"),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),  # after Resize, so that the true boxes stay in the original's pixels
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]

train_sets = [
    dict(
        type="VOCDataset",
        data_root=data_root,
        ann_file=f"VOCdevkit/{year}/ImageSets/Main/trainval.txt",
        data_prefix=dict(sub_data_root=f"VOCdevkit/{year}/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    )
    for year in ("VOC2007", "VOC2012")
]
train_dataloader = dict(
    batch_size=2,  # on each of 8 GPUs
    num_workers=4,
    # The two years call themselves different data set types, which ConcatDataset would otherwise refuse.
    dataset=dict(type="ConcatDataset", ignore_keys=["dataset_type"], datasets=train_sets),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VOCDataset",
        data_root=data_root,
        ann_file="VOCdevkit/VOC2007/ImageSets/Main/test.txt",
        data_prefix=dict(sub_data_root="VOCdevkit/VOC2007/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type="VocBoxAP")

train_cfg = dict(type="ResumableLoop", max_iters=24000, val_interval=24000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=24000, milestones=[18000, 22000], gamma=0.1),
]
