"""CutMix with the momentum pipeline and one-hot cross-entropy (Table 10, "+MP+CE"): Tiny-ImageNet, ResNet-18.

The network learns from the clean images too. Expected: 65.05 (CIFAR-100: 79.64; ImageNet: 70.04). Not run by this
project so far. Cost: 400,000 steps of 100 images at about twice a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/cutmix_mp_ce.py --resume auto
"""

_base_ = "base.py"

name = "ablations/cutmix_mp_ce"
method = dict(name="cutmix", alpha=0.2, momentum=0.999, one_hot_ce=True)
