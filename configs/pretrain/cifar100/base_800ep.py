"""CIFAR-100, 800 epochs (Section 4.1): the paper's settings without a mixing method.

Batch 100 at learning rate 0.1, cosine to 0, SGD with momentum 0.9 and weight decay 1e-4, flip and crop with 4 pixels
of padding at 32. Networks with the CIFAR stem.
"""

data = dict(
    root="data/cifar100",
    prepare="arrange CIFAR-100 as data/cifar100/{train,val}/<class>/*.png (docs/pretraining.md)",
    batch_size=100,
    workers=8,
    transform=dict(size=32, train_crop="padded", padding=4, test_crop_ratio=1.0),
)
optim = dict(name="momentum", lr=0.1, min_lr=0.0, momentum=0.9, weight_decay=1e-4, epochs=800)
run = dict(precision="32-true", channels_last=True, log_every=100)
