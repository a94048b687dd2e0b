"""ResNet-50, iNaturalist 2017, 100 epochs (Table 5 of the paper).

Expected: AutoMix 63.08 top-1, vanilla 60.23, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config inat2017/r50_100ep`. Not run by this project so far. Cost:
226,200 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/inat2017/r50_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/inat2017/r50_100ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_100ep.py"

name = "inat2017/r50_100ep"
backbone = dict(name="resnet50")
