"""ResNet-18, Tiny-ImageNet, 400 epochs (Table 1 of the paper).

Expected: AutoMix 67.33 top-1, vanilla 61.68, the paper's mean of three trials, each the median of the last ten
epochs; every method: `tools/configs.py list --config tiny/r18_400ep`. Not run by this project so far. alpha is 0.2
for ResNet-18, 1 for ResNeXt-50 (appendix A.1). Cost: 400,000 steps of 100 images; hours and the arithmetic:
docs/scaling.md.

    tools/pretrain.sh configs/pretrain/tiny/r18_400ep.py --resume auto
    tools/pretrain.sh configs/pretrain/tiny/r18_400ep.py --method vanilla mixup cutmix --resume auto
"""

_base_ = "base_400ep.py"

name = "tiny/r18_400ep"
backbone = dict(name="cifar_resnet18")
methods = dict(
    mixup=dict(alpha=0.2),
    cutmix=dict(alpha=0.2),
    saliencymix=dict(alpha=0.2),
    fmix=dict(alpha=0.2),
    resizemix=dict(alpha=0.2),
)
