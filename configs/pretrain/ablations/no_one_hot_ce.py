"""AutoMix without one-hot cross-entropy (Table 10, "+MP"): Tiny-ImageNet, ResNet-18.

The student sees mixed images only. "+MP+CE" is configs/pretrain/tiny/r18_400ep.py. Expected: 67.19
(CIFAR-100: 81.93; ImageNet: 70.45). Not run by this project so far. Cost: 400,000 steps of 100 images at about twice
a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/no_one_hot_ce.py --resume auto
"""

_base_ = "base.py"

name = "ablations/no_one_hot_ce"
method = dict(name="automix", one_hot_ce=False)
