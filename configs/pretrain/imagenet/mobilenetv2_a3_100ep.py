"""MobileNetV2, ImageNet-1k, RSB A3, 100 epochs (Table 3 of the paper).

Expected: AutoMix 71.16 top-1, the row RSB 69.86, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/mobilenetv2_a3_100ep`. Not run by this project so
far. Cost: 62,500 steps of 2048 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/mobilenetv2_a3_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/mobilenetv2_a3_100ep.py 8 --method random_choice mixup --resume auto
"""

_base_ = "base_rsb_a3_100ep.py"

name = "imagenet/mobilenetv2_a3_100ep"
backbone = dict(name="mobilenetv2_100")
