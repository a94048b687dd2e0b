"""ResNeXt-50 (32x4d), Tiny-ImageNet, 400 epochs (Table 1 of the paper).

Expected: AutoMix 70.72 top-1, vanilla 65.04, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config tiny/rx50_400ep`. Not run by this project so far. Cost:
400,000 steps of 100 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/tiny/rx50_400ep.py --resume auto
    tools/pretrain.sh configs/pretrain/tiny/rx50_400ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_400ep.py"

name = "tiny/rx50_400ep"
backbone = dict(name="cifar_resnext50_32x4d")
