"""ResNet-50, ImageNet-1k, PyTorch-style, 100 epochs (Table 2 of the paper).

Expected: AutoMix 77.91 top-1, vanilla 76.83, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/r50_100ep`. Not run by this project so far. Cost:
500,400 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/r50_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r50_100ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r50_100ep"
backbone = dict(name="resnet50")
