"""AutoMix without the momentum pipeline (Table 10, "none"): Tiny-ImageNet, ResNet-18.

One network does both tasks on the same mixed images (Eq. 3), which the paper calls entangled; no one-hot
cross-entropy. Expected: 64.84 (CIFAR-100: 79.46; ImageNet: 70.04). Not run by this project so far. Cost: 400,000
steps of 100 images at about 1.3 times a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/no_momentum_pipeline.py --resume auto
"""

_base_ = "base.py"

name = "ablations/no_momentum_pipeline"
method = dict(name="automix", momentum=None, one_hot_ce=False)
