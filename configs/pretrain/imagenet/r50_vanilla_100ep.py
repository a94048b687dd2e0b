"""Vanilla training, ResNet-50, ImageNet-1k, PyTorch-style 100 epochs (Table 2 of the paper).

Expected: 76.83 top-1, the paper's mean of three trials, each the median of the last ten epochs. Not run by this
project so far. Cost: 500,400 steps of 256 images.

    tools/pretrain.sh configs/pretrain/imagenet/r50_vanilla_100ep.py 8 --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r50_100ep"
backbone = dict(name="resnet50")
method = dict(name="vanilla")
