"""180,000 iterations, 25 passes over COCO; a warm-up of 1000.

mmengine counts the first step of a warm-up too: with one more, the whole rate comes where Detectron2 has it.
"""

train_cfg = dict(type="ResumableLoop", max_iters=180000, val_interval=180000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1001),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=180000, milestones=[120000, 160000], gamma=0.1),
]
