"""AlignMix, ResNet-18, CUB-200-2011, 200 epochs from ImageNet weights.

Expected: the paper has no figure for this cell (vanilla: 77.68 in Table 5). Not run by this project so far. alpha is
that of the method's authors. Behind the last stage a ResNet only averages, so that aligned features give the loss of
a plain mix of them: see docs/mixups.md. Cost: 74,800 steps of 16 images at about the cost of a vanilla step.

    tools/pretrain.sh configs/pretrain/cub200/r18_alignmix_200ep.py --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/r18_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
method = dict(name="alignmix", alpha=2.0)
