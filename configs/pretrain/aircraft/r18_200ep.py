"""ResNet-18, FGVC-Aircraft, 200 epochs from ImageNet weights (Table 5 of the paper).

Expected: AutoMix 81.37 top-1, vanilla 80.23, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config aircraft/r18_200ep`. Not run by this project so far. Cost:
83,200 steps of 16 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/aircraft/r18_200ep.py --resume auto
    tools/pretrain.sh configs/pretrain/aircraft/r18_200ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_200ep.py"

name = "aircraft/r18_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
