"""AlignMix, ResNet-18, CIFAR-100, 800 epochs.

Expected: the paper has no figure for this cell (vanilla: 78.04 in Tables 1 and 14). Not run by this project so far.
alpha is that of the method's authors. Behind the last stage a ResNet only averages, so that aligned features give the
loss of a plain mix of them: see docs/mixups.md. Cost: 400,000 steps of 100 images at about the cost of a vanilla
step.

    tools/pretrain.sh configs/pretrain/cifar100/r18_alignmix_800ep.py --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar100/r18_800ep"
backbone = dict(name="cifar_resnet18")
method = dict(name="alignmix", alpha=2.0)
