"""AugMix, ResNet-50, ImageNet-1k, PyTorch-style 100 epochs.

Expected: the paper has no figure for this cell (vanilla: 76.83 in Table 2). Not run by this project so far. The
loader makes three views of each image; severity 1 is the authors' for ImageNet. Cost: 500,400 steps of 256 images at
about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/imagenet/r50_augmix_100ep.py 8 --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r50_100ep"
backbone = dict(name="resnet50")
method = dict(name="augmix", severity=1.0)
