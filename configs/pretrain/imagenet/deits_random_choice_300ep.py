"""Random choice of MixUp and CutMix, DeiT-S, ImageNet-1k, DeiT's procedure, 300 epochs (Table 4, row "DeiT").

Expected: 79.80 top-1, the paper's figure. The alphas are Table 12's. The procedure lacks ingredients so far, see the
base. Not run by this project so far. Cost: 375,300 steps of 1024 images at about the cost of a vanilla step.

    tools/pretrain.sh configs/pretrain/imagenet/deits_random_choice_300ep.py 8 --resume auto
"""

_base_ = "base_deit_300ep.py"

name = "imagenet/deits_300ep"
backbone = dict(name="deit_small_patch16_224", drop_path_rate=0.1)
method = dict(name="random_choice", mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5)
