"""ResNet-18, CIFAR-100, 800 epochs (Tables 1 and 14 of the paper).

Expected: AutoMix 82.04 top-1, vanilla 78.04, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cifar100/r18_800ep`. Not run by this project so far. Cost:
400,000 steps of 100 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cifar100/r18_800ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cifar100/r18_800ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar100/r18_800ep"
backbone = dict(name="cifar_resnet18")
