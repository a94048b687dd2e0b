"""EfficientNet-B0, ImageNet-1k, RSB A2, 300 epochs (Table 3 of the paper).

Expected: AutoMix 77.58 top-1, the row RSB 77.26, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/effb0_a2_300ep`. Not run by this project so far.
Cost: 187,500 steps of 2048 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/effb0_a2_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/effb0_a2_300ep.py 8 --method random_choice mixup cutmix --resume auto
"""

_base_ = "base_rsb_a2_300ep.py"

name = "imagenet/effb0_a2_300ep"
backbone = dict(name="efficientnet_b0")
