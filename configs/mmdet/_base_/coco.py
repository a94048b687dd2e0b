"""COCO 2017: training with the shorter side at 640 to 800 pixels in steps of 32, test at 800; 2 images on each GPU.

Pillow resizes, as in Detectron2, where MMDetection would take OpenCV: the same file becomes the same picture.
"""

data_root = "{{$DATA_ROOT:data}}/"
data_name = "COCO val2017"

train_pipeline = [
    dict(type="LoadCheckedImage"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="RandomChoiceResize",
        scales=[(1333, side) for side in range(640, 801, 32)],
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
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="coco/annotations/instances_train2017.json",
        data_prefix=dict(img="coco/train2017/"),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="coco/annotations/instances_val2017.json",
        data_prefix=dict(img="coco/val2017/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type="CocoBoxAP", ann_file=data_root + "coco/annotations/instances_val2017.json")
