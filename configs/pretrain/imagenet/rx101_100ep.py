"""ResNeXt-101 (32x4d), ImageNet-1k, PyTorch-style, 100 epochs (Table 2 of the paper).

Expected: AutoMix 80.89 top-1, vanilla 78.71, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/rx101_100ep`. Not run by this project so far. Cost:
500,400 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/rx101_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/rx101_100ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/rx101_100ep"
backbone = dict(name="resnext101_32x4d")
