"""ResNet-18, Places205, 100 epochs (Table 5 of the paper).

Expected: AutoMix 59.74 top-1, vanilla 59.63, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config places205/r18_100ep`. Not run by this project so far. Cost:
956,500 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/places205/r18_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/places205/r18_100ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_100ep.py"

name = "places205/r18_100ep"
backbone = dict(name="resnet18")
