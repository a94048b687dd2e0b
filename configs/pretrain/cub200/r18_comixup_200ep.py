"""Co-Mixup, ResNet-18, CUB-200-2011, 200 epochs from ImageNet weights.

Expected: the paper has no figure for this cell (vanilla: 77.68 in Table 5). Not run by this project so far. alpha is
the paper's (appendix A.1). Partitions of 16 and three iterations are the authors' for ImageNet. Cost: 74,800 steps of
16 images at about 1.7 to 1.9 times a vanilla step.

    tools/pretrain.sh configs/pretrain/cub200/r18_comixup_200ep.py --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/r18_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
method = dict(name="comixup", alpha=2.0, partition=16, iterations=3)
