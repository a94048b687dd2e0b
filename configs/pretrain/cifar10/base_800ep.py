"""CIFAR-10, 800 epochs (Section 4.1): the paper's settings, those of CIFAR-100."""

_base_ = "../cifar100/base_800ep.py"

data = dict(root="data/cifar10", prepare="python tools/prepare_cifar.py cifar10")
