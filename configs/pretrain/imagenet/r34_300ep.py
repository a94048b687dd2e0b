"""ResNet-34, ImageNet-1k, PyTorch-style, 300 epochs (Table 2 of the paper).

Expected: AutoMix 76.10 top-1, vanilla 75.29, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config imagenet/r34_300ep`. Not run by this project so far. Appendix
A.1 gives alpha for ResNet-18 (0.2) and for "median and large backbones" (1): ResNet-34 is taken as one of these.
Cost: 1,501,200 steps of 256 images; hours and the arithmetic: docs/scaling.md.

    tools/pretrain.sh configs/pretrain/imagenet/r34_300ep.py 8 --resume auto
    tools/pretrain.sh configs/pretrain/imagenet/r34_300ep.py 8 --method vanilla mixup cutmix --resume auto
"""

_base_ = "r34_100ep.py"

name = "imagenet/r34_300ep"
optim = dict(epochs=300)
