"""AutoMix as the authors' code has it (OpenMixup, commit 37e1372): ResNet-18, CIFAR-100, 400 epochs.

Learning rate 0.1 to 0.05, for the Mix Block too, which does not see lambda; gamma stays. Not run by this project so
far. Cost: 200,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/openmixup/cifar100_r18_400ep.py --resume auto
"""

_base_ = "../cifar100/base_800ep.py"

name = "openmixup/cifar100_r18_400ep"
backbone = dict(name="cifar_resnet18")
method = dict(
    name="automix",
    preset="openmixup",
    mix_block_lr=0.1,
    mix_block_min_lr=0.05,
    lam_embedding=False,
    gamma_schedule="constant",
    momentum_end=0.999999,
)
optim = dict(lr=0.1, min_lr=0.05, epochs=400)
