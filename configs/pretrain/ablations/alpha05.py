"""AutoMix with lambda ~ Beta(0.5, 0.5) instead of Beta(2, 2) (Figure 9): Tiny-ImageNet, ResNet-18.

Lambdas near 0 and 1 are the likelier ones. Expected: less than the 67.33 of alpha = 2; the paper's figures are in a
picture. Not run by this project so far. Cost: 400,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/alpha05.py --resume auto
"""

_base_ = "base.py"

name = "ablations/alpha05"
method = dict(name="automix", alpha=0.5)
