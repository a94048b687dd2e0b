"""AttentiveMix, ResNet-18, CUB-200-2011, 200 epochs from ImageNet weights.

Expected: the paper has no figure for this cell (vanilla: 77.68 in Table 5). Not run by this project so far. The
frozen network is torchvision's ResNet-50, which timm downloads. Cost: 74,800 steps of 16 images. Plus, for each, a
pass of the frozen ResNet-50 over its images at 224 pixels.

    tools/pretrain.sh configs/pretrain/cub200/r18_attentivemix_200ep.py --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/r18_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
method = dict(name="attentivemix", frozen_network="resnet50.tv_in1k")
