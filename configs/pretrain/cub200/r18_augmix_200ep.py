"""AugMix, ResNet-18, CUB-200-2011, 200 epochs from ImageNet weights.

Expected: the paper has no figure for this cell (vanilla: 77.68 in Table 5). Not run by this project so far. The
loader makes three views of each image; severity 1 is the authors' for ImageNet. Cost: 74,800 steps of 16 images at
about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/cub200/r18_augmix_200ep.py --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/r18_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
method = dict(name="augmix", severity=1.0)
