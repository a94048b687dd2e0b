"""ResNet-18, CIFAR-100, 1200 epochs (Table 14 of the paper).

Expected: AutoMix 81.95 top-1, vanilla 78.55, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cifar100/r18_1200ep`. Not run by this project so far. Cost:
600,000 steps of 100 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cifar100/r18_1200ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cifar100/r18_1200ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "r18_800ep.py"

name = "cifar100/r18_1200ep"
optim = dict(epochs=1200)
