"""What each method is set to unless a base says otherwise; `tools/pretrain.sh CONFIG --method NAME` takes it from here.

The alphas are appendix A.1's for "median and large backbones" on ImageNet and Tiny-ImageNet. PuzzleMix (1) and Co-Mixup
and AutoMix (2) have theirs on all data sets. AlignMix, AttentiveMix and AugMix are set as by their authors; AugMix's
loader makes three views of each image. AttentiveMix's frozen network is torchvision's ResNet-50, which timm downloads.
AlignMix on a ResNet gives the loss of a plain mix of features: docs/mixups.md.
"""

method = dict(name="automix")
methods = dict(
    vanilla=dict(),
    mixup=dict(alpha=1.0),
    cutmix=dict(alpha=1.0),
    manifoldmix=dict(alpha=0.2),
    saliencymix=dict(alpha=1.0),
    fmix=dict(alpha=1.0),
    puzzlemix=dict(alpha=1.0),
    comixup=dict(alpha=2.0),
    resizemix=dict(alpha=1.0),
    alignmix=dict(alpha=2.0),
    attentivemix=dict(frozen_network="resnet50.tv_in1k"),
    augmix=dict(severity=1.0),
)
