"""Cross-attention alone (Table 9, second row): Tiny-ImageNet, ResNet-18.

The Mix Block does not see lambda, and nothing tells its mask to keep to it: lambda embedding and l_lambda are off.
Expected: 66.87 (ResNeXt-50: 69.76). Not run by this project so far. Cost: 400,000 steps of 100 images at about three
times a vanilla step.

    tools/pretrain.sh configs/pretrain/ablations/cross_attention.py --resume auto
"""

_base_ = "base.py"

name = "ablations/cross_attention"
method = dict(name="automix", lam_embedding=False, gamma=0.0)
