"""AttentiveMix, ResNet-50, ImageNet-1k, PyTorch-style 100 epochs.

Expected: the paper has no figure for this cell (vanilla: 76.83 in Table 2). Not run by this project so far. The
frozen network is torchvision's ResNet-50, which timm downloads. Cost: 500,400 steps of 256 images. Plus, for each, a
pass of the frozen ResNet-50 over its images at 224 pixels.

    tools/pretrain.sh configs/pretrain/imagenet/r50_attentivemix_100ep.py 8 --resume auto
"""

_base_ = "base_100ep.py"

name = "imagenet/r50_100ep"
backbone = dict(name="resnet50")
method = dict(name="attentivemix", frozen_network="resnet50.tv_in1k")
