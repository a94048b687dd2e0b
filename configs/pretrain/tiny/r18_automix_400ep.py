"""AutoMix, ResNet-18, Tiny-ImageNet, 400 epochs (Tables 1, 9 and 10 of the paper).

Expected: 67.33 top-1, the paper's mean of three trials, each the median of the last ten epochs (vanilla: 61.68). Not
run by this project so far. Cost: 400,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/tiny/r18_automix_400ep.py --resume auto
"""

_base_ = "base_400ep.py"

name = "tiny/r18_400ep"
backbone = dict(name="cifar_resnet18")
method = dict(name="automix")
