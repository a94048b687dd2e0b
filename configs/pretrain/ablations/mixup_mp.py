"""MixUp with the momentum pipeline (Table 10, "+MP"): Tiny-ImageNet, ResNet-18.

The result is a momentum encoder of the network, m from 0.999 to 1. Expected: 66.02 (CIFAR-100: 80.82; ImageNet:
70.13). Not run by this project so far. Cost: 400,000 vanilla steps of 100 images.

    tools/pretrain.sh configs/pretrain/ablations/mixup_mp.py --resume auto
"""

_base_ = "base.py"

name = "ablations/mixup_mp"
method = dict(name="mixup", alpha=0.2, momentum=0.999)
