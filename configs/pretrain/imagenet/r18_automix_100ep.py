"""AutoMix, ResNet-18, ImageNet-1k, PyTorch-style 100 epochs (Table 2 of the paper).

Expected: 70.50 top-1, the paper's mean of three trials, each the median of the last ten epochs (vanilla: 70.04).
Not run by this project so far. Cost: 500,400 steps of 256 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/imagenet/r18_automix_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r18_automix_100ep.py 8 --compare vanilla mixup cutmix --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r18_100ep"
backbone = dict(name="resnet18")
method = dict(name="automix", alpha=2.0, feature_layer=3, momentum=0.999, momentum_end=1.0, gamma=0.1)
