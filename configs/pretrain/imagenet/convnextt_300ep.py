"""ConvNeXt-T, ImageNet-1k, DeiT's procedure, 300 epochs (Table 4 of the paper).

Expected: AutoMix 82.28 top-1, the row DeiT 82.10, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/convnextt_300ep`. Not run by this project so far.
Cost: 375,300 steps of 1024 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/convnextt_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/convnextt_300ep.py 8 --method random_choice mixup cutmix --resume auto
"""

_base_ = "base_deit_300ep.py"

name = "imagenet/convnextt_300ep"
backbone = dict(name="convnext_tiny")
