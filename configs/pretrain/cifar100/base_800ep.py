"""CIFAR-100, 800 epochs (Section 4.1): the paper's settings.

Batch 100 at learning rate 0.1, cosine to 0, SGD with momentum 0.9 and weight decay 1e-4, flip and crop with 4 pixels
of padding at 32. Networks with the CIFAR stem. The alphas are appendix A.1's; AugMix's severity is its authors' for
CIFAR.
"""

_base_ = "../methods.py"

data = dict(
    root="data/cifar100",
    prepare="python tools/prepare_cifar.py cifar100",
    batch_size=100,
    workers=8,
    transform=dict(size=32, train_crop="padded", padding=4, test_crop_ratio=1.0),
)
methods = dict(
    cutmix=dict(alpha=0.2),
    manifoldmix=dict(alpha=2.0),
    saliencymix=dict(alpha=0.2),
    fmix=dict(alpha=0.2),
    augmix=dict(severity=3.0),
)
optim = dict(name="momentum", lr=0.1, min_lr=0.0, lr_batch_size=100, momentum=0.9, weight_decay=1e-4, epochs=800)
run = dict(precision="32-true", channels_last=True, log_every=100)
