"""ResNeXt-50 (32x4d), CIFAR-100, 400 epochs (Table 14 of the paper).

Expected: AutoMix 83.32 top-1, vanilla 80.24, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cifar100/rx50_400ep`. Not run by this project so far. Cost:
200,000 steps of 100 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cifar100/rx50_400ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cifar100/rx50_400ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "rx50_800ep.py"

name = "cifar100/rx50_400ep"
optim = dict(epochs=400)
