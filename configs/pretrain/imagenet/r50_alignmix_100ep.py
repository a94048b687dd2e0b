"""AlignMix, ResNet-50, ImageNet-1k, PyTorch-style 100 epochs.

Expected: the paper has no figure for this cell (vanilla: 76.83 in Table 2). Not run by this project so far. alpha is
that of the method's authors. Behind the last stage a ResNet only averages, so that aligned features give the loss of
a plain mix of them: see docs/mixups.md. Cost: 500,400 steps of 256 images at about the cost of a vanilla step.

    tools/pretrain.sh configs/pretrain/imagenet/r50_alignmix_100ep.py 8 --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r50_100ep"
backbone = dict(name="resnet50")
method = dict(name="alignmix", alpha=2.0)
