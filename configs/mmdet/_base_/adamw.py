"""AdamW as is usual for detectors with a Swin transformer; 16 images a step (8 GPUs of 2 images), rate 1e-4.

Source: MMDetection's configs/swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py, whose figures are for these settings.
"""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # Neither the norms (of the transformer and of the pyramid) nor the biases of the positions decay.
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0))),
)
# Another number of images a step is refused: --scale-to changes rate and schedule with it, mmengine the rate alone.
auto_scale_lr = dict(enable=False, base_batch_size=16)
