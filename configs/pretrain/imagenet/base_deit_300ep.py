"""ImageNet-1k, DeiT's procedure, 300 epochs: Table 12 of the paper, second column.

Batch 1024 at learning rate 1e-3, five epochs of warm-up, cosine to 1e-5, AdamW with weight decay 0.05 on weights alone,
gradients clipped to norm 1, label smoothing 0.1 on top of the mixed labels, stochastic depth 0.1, random resized crop
and flip at 224, RandAugment 9/0.5, erasing 0.25, three repeats of each augmented image, an average of the weights with
decay 0.99996, test crop 0.875. The alphas of single methods are appendix A.1's 0.2; random_choice is the row "DeiT",
MixUp 0.8 or CutMix 1.0. docs/recipes.md says what was decided where the table is silent.
"""

_base_ = "base_100ep.py"

data = dict(
    batch_size=1024,
    repeated_augmentation=3,
    transform=dict(interpolation="bicubic", auto_augment="rand-m9-mstd0.5-inc1", erasing=0.25),
)
backbone = dict(drop_path_rate=0.1)
loss = dict(smoothing=0.1)
methods = dict(
    mixup=dict(alpha=0.2),
    cutmix=dict(alpha=0.2),
    saliencymix=dict(alpha=0.2),
    fmix=dict(alpha=0.2),
    resizemix=dict(alpha=0.2),
    random_choice=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5),
)
optim = dict(
    name="adamw",
    lr=1e-3,
    min_lr=1e-5,
    lr_batch_size=1024,
    weight_decay=0.05,
    decay_norm_and_bias=False,
    clip_norm=1.0,
    warmup_epochs=5,
    epochs=300,
    ema_decay=0.99996,
)
