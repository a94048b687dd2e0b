"""AutoMix on feature layer 1 instead of 3 (Table 11 and Figure 10): Tiny-ImageNet, ResNet-18.

64x64 positions: each image's attention has 16.8 million entries, 6.7 GB in float32 for a batch of 100, and some of
them at a time. Expected: the paper gives its figures in a picture, and recommends layer 3 (67.33). Not run by this
project so far. Cost: 400,000 steps of 100 images at about 3.1 times a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/layer1.py --resume auto
"""

_base_ = "base.py"

name = "ablations/layer1"
method = dict(name="automix", feature_layer=1)
