"""ImageNet-1k, RSB A2, 300 epochs: Table 12 of the paper, third column.

Batch 2048 at learning rate 5e-3, five epochs of warm-up, cosine to 1e-6, LAMB with weight decay 0.02 on weights alone,
no clipping, binary cross-entropy with soft targets, stochastic depth 0.05, random resized crop and flip at 224,
RandAugment 7/0.5, three repeats of each augmented image, mixed precision, test crop 0.95. The alphas of single methods
are appendix A.1's 0.2; random_choice is the row "RSB", MixUp 0.1 or CutMix 1.0. docs/recipes.md says what was decided
where the table is silent.
"""

_base_ = "base_100ep.py"

data = dict(
    batch_size=2048,
    repeated_augmentation=3,
    transform=dict(interpolation="bicubic", auto_augment="rand-m7-mstd0.5-inc1", test_crop_ratio=0.95),
)
backbone = dict(drop_path_rate=0.05)
loss = dict(name="bce")
methods = dict(
    mixup=dict(alpha=0.2),
    cutmix=dict(alpha=0.2),
    saliencymix=dict(alpha=0.2),
    fmix=dict(alpha=0.2),
    resizemix=dict(alpha=0.2),
    random_choice=dict(mixup_alpha=0.1, cutmix_alpha=1.0, switch_prob=0.5),
)
optim = dict(
    name="lamb",
    lr=5e-3,
    min_lr=1e-6,
    lr_batch_size=2048,
    weight_decay=0.02,
    decay_norm_and_bias=False,
    warmup_epochs=5,
    epochs=300,
)
run = dict(precision="bf16-mixed")
