"""Detectron2's optimiser for 16 images a step (8 GPUs of 2 images), rate 0.02, norms without weight decay."""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
# Another number of images a step is refused: --scale-to changes rate and schedule with it, mmengine the rate alone.
auto_scale_lr = dict(enable=False, base_batch_size=16)
