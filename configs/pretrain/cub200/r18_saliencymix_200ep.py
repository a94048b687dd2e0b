"""SaliencyMix, ResNet-18, CUB-200-2011, 200 epochs from ImageNet weights (Table 5 of the paper).

Expected: 77.95 top-1, the paper's mean of three trials, each the median of the last ten epochs (vanilla: 77.68). Not
run by this project so far. alpha is the paper's (appendix A.1). Cost: 74,800 steps of 16 images at about the cost of
a vanilla step.

    tools/pretrain.sh configs/pretrain/cub200/r18_saliencymix_200ep.py --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/r18_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
method = dict(name="saliencymix", alpha=0.2)
