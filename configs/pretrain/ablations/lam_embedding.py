"""Cross-attention and lambda embedding (Table 9, third row): Tiny-ImageNet, ResNet-18.

Without l_lambda. The fourth row, with it, is configs/pretrain/tiny/r18_400ep.py. Expected: 67.15 (ResNeXt-50:
70.41). Not run by this project so far. Cost: 400,000 steps of 100 images at about three times a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/lam_embedding.py --resume auto
"""

_base_ = "base.py"

name = "ablations/lam_embedding"
method = dict(name="automix", gamma=0.0)
