"""ResNet-50, ImageNet-1k, PyTorch-style, 300 epochs (Table 2 of the paper).

Expected: AutoMix 79.25 top-1, vanilla 77.35, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/r50_300ep`. Not run by this project so far. Cost:
1,501,200 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/r50_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r50_300ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "r50_100ep.py"

name = "imagenet/r50_300ep"
optim = dict(epochs=300)
