"""CutMix with the momentum pipeline (Table 10, "+MP"): Tiny-ImageNet, ResNet-18.

The result is a momentum encoder of the network, m from 0.999 to 1. Expected: 65.72 (CIFAR-100: 79.57; ImageNet:
70.02). Not run by this project so far. Cost: 400,000 vanilla steps of 100 images.

    tools/pretrain.sh configs/pretrain/ablations/cutmix_mp.py --resume auto
"""

_base_ = "base.py"

name = "ablations/cutmix_mp"
method = dict(name="cutmix", alpha=0.2, momentum=0.999)
