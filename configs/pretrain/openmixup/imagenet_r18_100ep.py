"""AutoMix as the authors' code has it (OpenMixup, commit 37e1372): ResNet-18, ImageNet-1k, 100 epochs.

The preset as it is. Not run by this project so far. Cost: 500,400 steps of 256 images at about three times a vanilla
step.

    tools/pretrain.sh configs/pretrain/openmixup/imagenet_r18_100ep.py --resume auto
"""

_base_ = "../imagenet/base_100ep.py"

name = "openmixup/imagenet_r18_100ep"
backbone = dict(name="resnet18")
method = dict(name="automix", preset="openmixup")
