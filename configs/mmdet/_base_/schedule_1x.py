"""90,000 iterations, 12 passes over COCO; a warm-up of 1000.

mmengine counts the first step of a warm-up too: with one more, the whole rate comes where Detectron2 has it.
"""

train_cfg = dict(type="ResumableLoop", max_iters=90000, val_interval=90000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1001),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=90000, milestones=[60000, 80000], gamma=0.1),
]
