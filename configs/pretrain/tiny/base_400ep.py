"""Tiny-ImageNet, 400 epochs (Section 4.1): the paper's settings.

Batch 100 at learning rate 0.2, cosine to 0, SGD with momentum 0.9 and weight decay 1e-4, random resized crop and flip
at 64. Networks with the CIFAR stem. The data set has 100,000 training images; appendix A.1 says 10,000.
"""

_base_ = "../methods.py"

data = dict(
    root="data/tiny",
    prepare="python tools/prepare_tiny.py",
    batch_size=100,
    workers=8,
    transform=dict(size=64, train_crop="resized", scale=(0.08, 1.0), test_crop_ratio=1.0),
)
optim = dict(name="momentum", lr=0.2, min_lr=0.0, lr_batch_size=100, momentum=0.9, weight_decay=1e-4, epochs=400)
run = dict(precision="32-true", channels_last=True, log_every=100)
