"""AttentiveMix, ResNet-18, CIFAR-100, 800 epochs.

Expected: the paper has no figure for this cell (vanilla: 78.04 in Tables 1 and 14). Not run by this project so far.
The frozen network is torchvision's ResNet-50, which timm downloads. Cost: 400,000 steps of 100 images. Plus, for
each, a pass of the frozen ResNet-50 over its images at 224 pixels.

    tools/pretrain.sh configs/pretrain/cifar100/r18_attentivemix_800ep.py --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar100/r18_800ep"
backbone = dict(name="cifar_resnet18")
method = dict(name="attentivemix", frozen_network="resnet50.tv_in1k")
