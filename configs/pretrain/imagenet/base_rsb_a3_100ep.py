"""ImageNet-1k, RSB A3, 100 epochs: Table 12 of the paper, fourth column.

As A2, but trained at 160 pixels and tested at 224, learning rate 8e-3, RandAugment 6/0.5, no stochastic depth, no
repeated augmentation.
"""

_base_ = "base_rsb_a2_300ep.py"

data = dict(repeated_augmentation=1, transform=dict(size=160, test_size=224, auto_augment="rand-m6-mstd0.5-inc1"))
backbone = dict(drop_path_rate=0.0)
optim = dict(lr=8e-3, epochs=100)
