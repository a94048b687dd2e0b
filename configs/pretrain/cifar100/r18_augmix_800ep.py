"""AugMix, ResNet-18, CIFAR-100, 800 epochs.

Expected: the paper has no figure for this cell (vanilla: 78.04 in Tables 1 and 14). Not run by this project so far.
The loader makes three views of each image; severity 3 is the authors' for CIFAR. Cost: 400,000 steps of 100 images at
about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/cifar100/r18_augmix_800ep.py --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar100/r18_800ep"
backbone = dict(name="cifar_resnet18")
method = dict(name="augmix", severity=3.0)
