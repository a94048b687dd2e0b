"""WRN-28-8, CIFAR-100, 800 epochs (Table 1 of the paper).

Expected: AutoMix 85.18 top-1, vanilla 81.63, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config cifar100/wrn28_8_800ep`. Not run by this project so far. The
Mix Block reads the 16x16 stage, the last but one, as in the networks of four stages and in the authors' code; WRN
has three, so l = 2 here. Cost: 400,000 steps of 100 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/cifar100/wrn28_8_800ep.py --resume auto
    tools/pretrain.sh configs/pretrain/cifar100/wrn28_8_800ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar100/wrn28_8_800ep"
backbone = dict(name="cifar_wrn28_8")
method = dict(feature_layer=2)
