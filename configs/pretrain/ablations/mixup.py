"""MixUp (Table 10, "none"): Tiny-ImageNet, ResNet-18.

alpha = 0.2, as in appendix A.1 for ResNet-18 on Tiny-ImageNet. Expected: 63.39 (CIFAR-100: 79.12; ImageNet: 69.98).
Not run by this project so far. Cost: 400,000 vanilla steps of 100 images.

    tools/pretrain.sh configs/pretrain/ablations/mixup.py --resume auto
"""

_base_ = "base.py"

name = "ablations/mixup"
method = dict(name="mixup", alpha=0.2)
