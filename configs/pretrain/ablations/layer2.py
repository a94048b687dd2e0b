"""AutoMix on feature layer 2 instead of 3 (Table 11 and Figure 10): Tiny-ImageNet, ResNet-18.

32x32 positions: each image's attention has a million entries. Expected: the paper gives its figures in a picture, and
recommends layer 3 (67.33). Not run by this project so far. Cost: 400,000 steps of 100 images at about 2.9 times a
vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/layer2.py --resume auto
"""

_base_ = "base.py"

name = "ablations/layer2"
method = dict(name="automix", feature_layer=2)
