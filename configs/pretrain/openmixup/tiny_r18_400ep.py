"""AutoMix as the authors' code has it (OpenMixup, commit 37e1372): ResNet-18, Tiny-ImageNet, 400 epochs.

Learning rate 0.2 to 0.05, 0.1 to 1e-3 for the Mix Block, which does not see lambda; gamma stays. Not run by this
project so far. Cost: 400,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/openmixup/tiny_r18_400ep.py --resume auto
"""

_base_ = "../tiny/base_400ep.py"

name = "openmixup/tiny_r18_400ep"
backbone = dict(name="cifar_resnet18")
method = dict(
    name="automix",
    preset="openmixup",
    lam_embedding=False,
    gamma_schedule="constant",
    momentum_end=0.999999,
)
optim = dict(lr=0.2, min_lr=0.05, epochs=400)
