"""Swin-T, ImageNet-1k, DeiT's procedure, 300 epochs (Table 4 of the paper).

Expected: AutoMix 81.80 top-1, the row DeiT 81.28, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/swint_300ep`. Not run by this project so far. The
paper has a figure for TransMix too, 81.80, but Swin has no class token, whose attention TransMix reads: it is
refused. Cost: 375,300 steps of 1024 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/swint_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/swint_300ep.py 8 --method random_choice mixup cutmix --resume auto
"""

_base_ = "base_deit_300ep.py"

name = "imagenet/swint_300ep"
backbone = dict(name="swin_tiny_patch4_window7_224")
