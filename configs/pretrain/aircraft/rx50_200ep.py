"""ResNeXt-50 (32x4d), FGVC-Aircraft, 200 epochs from ImageNet weights (Table 5 of the paper).

Expected: AutoMix 86.72 top-1, vanilla 85.10, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config aircraft/rx50_200ep`. Not run by this project so far. Cost:
83,200 steps of 16 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/aircraft/rx50_200ep.py --resume auto
    tools/pretrain.sh configs/pretrain/aircraft/rx50_200ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_200ep.py"

name = "aircraft/rx50_200ep"
backbone = dict(name="resnext50_32x4d", pretrained="resnext50_32x4d.tv_in1k")
