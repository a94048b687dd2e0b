"""ResNet-18, CUB-200-2011, 200 epochs from ImageNet weights (Table 5 of the paper).

Expected: AutoMix 79.87 top-1, vanilla 77.68, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cub200/r18_200ep`. Also the classifier
of Table 8, with vanilla, mixup, cutmix, fmix, puzzlemix, comixup and automix: docs/wsol.md. Not run by this project so
far. Cost: 74,800 steps of 16 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cub200/r18_200ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cub200/r18_200ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/r18_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
