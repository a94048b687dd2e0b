"""AutoMix with lambda ~ Beta(1, 1) instead of Beta(2, 2) (Figure 9): Tiny-ImageNet, ResNet-18.

Every lambda is as likely as another. Expected: less than the 67.33 of alpha = 2; the paper's figures are in a
picture. Not run by this project so far. Cost: 400,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/alpha1.py --resume auto
"""

_base_ = "base.py"

name = "ablations/alpha1"
method = dict(name="automix", alpha=1.0)
