"""ResNet-50, ImageNet-1k, RSB A3, 100 epochs (Table 3 of the paper).

Expected: AutoMix 78.44 top-1, the row RSB 78.08, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/r50_a3_100ep`. Not run by this project so far. Cost:
62,500 steps of 2048 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/r50_a3_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r50_a3_100ep.py 8 --method random_choice mixup cutmix --resume auto
"""

_base_ = "base_rsb_a3_100ep.py"

name = "imagenet/r50_a3_100ep"
backbone = dict(name="resnet50")
