"""MixUp, ResNet-18, CIFAR-100, 800 epochs (Tables 1 and 14 of the paper).

Expected: 79.12 top-1, the paper's mean of three trials, each the median of the last ten epochs (vanilla: 78.04). Not
run by this project so far. alpha is the paper's (appendix A.1). Cost: 400,000 steps of 100 images at about the cost
of a vanilla step.

    tools/pretrain.sh configs/pretrain/cifar100/r18_mixup_800ep.py --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar100/r18_800ep"
backbone = dict(name="cifar_resnet18")
method = dict(name="mixup", alpha=1.0)
