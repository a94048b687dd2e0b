"""AutoMix with a teacher that copies the student (Table 10, "+MP(m=0)"): Tiny-ImageNet, ResNet-18.

The tasks are decoupled, without averaging: m = 0 in Eq. 12; no one-hot cross-entropy. Expected: 67.05 (CIFAR-100:
81.75; ImageNet: 70.41). Not run by this project so far. Cost: 400,000 steps of 100 images at about twice a vanilla
step.

    tools/pretrain.sh configs/pretrain/ablations/momentum_zero.py --resume auto
"""

_base_ = "base.py"

name = "ablations/momentum_zero"
method = dict(name="automix", momentum=0.0, momentum_end=0.0, one_hot_ce=False)
