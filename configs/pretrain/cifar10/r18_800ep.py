"""ResNet-18, CIFAR-10, 800 epochs (Tables 1 and 13 of the paper).

Expected: AutoMix 97.34 top-1, vanilla 95.50, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cifar10/r18_800ep`. Not run by this project so far. Cost:
400,000 steps of 100 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cifar10/r18_800ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cifar10/r18_800ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar10/r18_800ep"
backbone = dict(name="cifar_resnet18")
