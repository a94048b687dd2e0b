"""Pascal VOC 2007 + 2012: training with the shorter side at 480 to 800 pixels in steps of 32; test on 2007 at 800.

2 images on each GPU. Pillow resizes, as in Detectron2, where MMDetection would take OpenCV: the same file becomes the
same picture.
"""

data_root = "{{$DATA_ROOT:data}}/"
data_name = "VOC 2007 test"

train_pipeline = [
    dict(type="LoadCheckedImage"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="RandomChoiceResize",
        scales=[(1333, side) for side in range(480, 801, 32)],
        keep_ratio=True,
        backend="pillow",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadCheckedImage"),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True, backend="pillow"),
    dict(type="LoadAnnotations", with_bbox=True),  # after Resize, so that the true boxes stay in the original's pixels
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]

train_sets = [
    dict(
        type="VOCDataset",
        data_root=data_root,
        ann_file=f"VOCdevkit/{year}/ImageSets/Main/trainval.txt",
        data_prefix=dict(sub_data_root=f"VOCdevkit/{year}/"),
        filter_cfg=dict(filter_empty_gt=True),
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
