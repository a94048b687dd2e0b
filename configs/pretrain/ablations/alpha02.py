"""AutoMix with lambda ~ Beta(0.2, 0.2) instead of Beta(2, 2) (Figure 9): Tiny-ImageNet, ResNet-18.

Most lambdas lie near 0 or 1. Expected: less than the 67.33 of alpha = 2; the paper's figures are in a picture. Not
run by this project so far. Cost: 400,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/alpha02.py --resume auto
"""

_base_ = "base.py"

name = "ablations/alpha02"
method = dict(name="automix", alpha=0.2)
