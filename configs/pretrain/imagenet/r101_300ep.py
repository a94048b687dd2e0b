"""ResNet-101, ImageNet-1k, PyTorch-style, 300 epochs (Table 2 of the paper).

Expected: AutoMix 80.98 top-1, vanilla 78.91, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/r101_300ep`. Not run by this project so far. Cost:
1,501,200 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/r101_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r101_300ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "r101_100ep.py"

name = "imagenet/r101_300ep"
optim = dict(epochs=300)
