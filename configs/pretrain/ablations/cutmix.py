"""CutMix (Table 10, "none"): Tiny-ImageNet, ResNet-18.

alpha = 0.2, as in appendix A.1 for ResNet-18 on Tiny-ImageNet. Expected: 64.40 (CIFAR-100: 78.17; ImageNet: 68.95).
Not run by this project so far. Cost: 400,000 vanilla steps of 100 images.

    tools/pretrain.sh configs/pretrain/ablations/cutmix.py --resume auto
"""

_base_ = "base.py"

name = "ablations/cutmix"
method = dict(name="cutmix", alpha=0.2)
