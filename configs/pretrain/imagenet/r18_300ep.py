"""ResNet-18, ImageNet-1k, PyTorch-style, 300 epochs (Table 2 of the paper).

Expected: AutoMix 72.05 top-1, vanilla 71.83, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/r18_300ep`. Not run by this project so far. alpha is
0.2 for ResNet-18, 1 for larger networks (appendix A.1). Cost: 1,501,200 steps of 256 images; hours and the
arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/r18_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r18_300ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "r18_100ep.py"

name = "imagenet/r18_300ep"
optim = dict(epochs=300)
