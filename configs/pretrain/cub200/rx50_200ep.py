"""ResNeXt-50 (32x4d), CUB-200-2011, 200 epochs from ImageNet weights (Table 5 of the paper).

Expected: AutoMix 86.56 top-1, vanilla 83.01, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cub200/rx50_200ep`. Also the classifier
of Table 8, with vanilla, mixup, cutmix, fmix, puzzlemix, comixup and automix: docs/wsol.md. Not run by this project so
far. Cost: 74,800 steps of 16 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cub200/rx50_200ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cub200/rx50_200ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/rx50_200ep"
backbone = dict(name="resnext50_32x4d", pretrained="resnext50_32x4d.tv_in1k")
