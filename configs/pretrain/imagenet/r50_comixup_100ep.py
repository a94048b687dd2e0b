"""Co-Mixup, ResNet-50, ImageNet-1k, PyTorch-style 100 epochs.

Expected: the paper has no figure for this cell (vanilla: 76.83 in Table 2). Not run by this project so far. alpha is
the paper's (appendix A.1). Partitions of 16 and three iterations are the authors' for ImageNet. Cost: 500,400 steps
of 256 images at about 1.7 to 1.9 times a vanilla step.

    tools/pretrain.sh configs/pretrain/imagenet/r50_comixup_100ep.py 8 --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r50_100ep"
backbone = dict(name="resnet50")
method = dict(name="comixup", alpha=2.0, partition=16, iterations=3)
