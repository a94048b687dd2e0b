"""ResNeXt-50 (32x4d), CIFAR-10, 400 epochs (Table 13 of the paper).

Expected: AutoMix 97.42 top-1, vanilla 95.81, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cifar10/rx50_400ep`. Not run by this project so far. Cost:
200,000 steps of 100 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cifar10/rx50_400ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cifar10/rx50_400ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "rx50_800ep.py"

name = "cifar10/rx50_400ep"
optim = dict(epochs=400)
