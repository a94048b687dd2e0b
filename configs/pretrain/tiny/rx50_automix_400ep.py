"""AutoMix, ResNeXt-50 (32x4d), Tiny-ImageNet, 400 epochs (Tables 1 and 9 of the paper).

Expected: 70.72 top-1, the paper's mean of three trials, each the median of the last ten epochs (vanilla: 65.04). Not
run by this project so far. Cost: 400,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/tiny/rx50_automix_400ep.py --resume auto
"""

_base_ = "base_400ep.py"

name = "tiny/rx50_400ep"
backbone = dict(name="cifar_resnext50_32x4d")
method = dict(name="automix")
