"""ResNet-18, ImageNet-1k, PyTorch-style, 100 epochs (Table 2 of the paper).

Expected: AutoMix 70.50 top-1, vanilla 70.04, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/r18_100ep`. Not run by this project so far. alpha is
0.2 for ResNet-18, 1 for larger networks (appendix A.1). Cost: 500,400 steps of 256 images; hours and the
arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/r18_100ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r18_100ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r18_100ep"
backbone = dict(name="resnet18")
methods = dict(
    mixup=dict(alpha=0.2),
    cutmix=dict(alpha=0.2),
    saliencymix=dict(alpha=0.2),
    fmix=dict(alpha=0.2),
    resizemix=dict(alpha=0.2),
)
