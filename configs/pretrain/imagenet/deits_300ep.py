"""DeiT-S, ImageNet-1k, DeiT's procedure, 300 epochs (Table 4 of the paper).

Expected: AutoMix 80.78 top-1, the row DeiT 79.80, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/deits_300ep`. Not run by this project so far. The Mix
Block reads the sixth of the twelve blocks, as in the authors' code: DeiT has no stages, and the paper's l = 3 does
not say which block is meant. TransMix's alpha is its authors'; their code, which the paper used, draws MixUp for
half of the batches, here every batch is CutMix, as TransMix is defined. Cost: 375,300 steps of 1024 images; hours
and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/deits_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/deits_300ep.py 8 --method random_choice mixup cutmix --resume auto
"""

_base_ = "base_deit_300ep.py"

name = "imagenet/deits_300ep"
backbone = dict(name="deit_small_patch16_224")
method = dict(feature_layer=2)
methods = dict(transmix=dict(alpha=1.0))
