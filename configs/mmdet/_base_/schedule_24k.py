"""24,000 iterations for Pascal VOC; a warm-up of 100.

mmengine counts the first step of a warm-up too: with one more, the whole rate comes where Detectron2 has it.
"""

train_cfg = dict(type="ResumableLoop", max_iters=24000, val_interval=24000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=101),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=24000, milestones=[18000, 22000], gamma=0.1),
]
