"""ResNet-50, iNaturalist 2018, 100 epochs (Table 5 of the paper).

Expected: AutoMix 64.73 top-1, vanilla 62.53, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config inat2018/r50_100ep`. Not run by this project so far. Cost:
170,900 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/inat2018/r50_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/inat2018/r50_100ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_100ep.py"

name = "inat2018/r50_100ep"
backbone = dict(name="resnet50")
