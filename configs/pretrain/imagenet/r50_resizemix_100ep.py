"""ResizeMix, ResNet-50, ImageNet-1k, PyTorch-style 100 epochs (Table 2 of the paper).

Expected: 77.42 top-1, the paper's mean of three trials, each the median of the last ten epochs (vanilla: 76.83). Not
run by this project so far. alpha is the paper's (appendix A.1). Cost: 500,400 steps of 256 images at about the cost
of a vanilla step.

    tools/pretrain.sh configs/pretrain/imagenet/r50_resizemix_100ep.py 8 --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r50_100ep"
backbone = dict(name="resnet50")
method = dict(name="resizemix", alpha=1.0)
