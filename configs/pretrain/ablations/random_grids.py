"""Random grids instead of cross-attention (Table 9, first row): Tiny-ImageNet, ResNet-18.

Momentum pipeline and one-hot cross-entropy stay as they are; the mask has the 16x16 cells that the Mix Block's
feature map would have, dealt out at random. Expected: 64.40 (ResNeXt-50: 66.83). Not run by this project so far.
Cost: 400,000 steps of 100 images at about twice a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/random_grids.py --resume auto
"""

_base_ = "base.py"

name = "ablations/random_grids"
method = dict(name="random_grids", alpha=2.0, grid=16, momentum=0.999, one_hot_ce=True)
