"""Places205, 100 epochs from scratch (Section 4.2): ImageNet's PyTorch-style settings; the alphas are 0.2 (A.1)."""

_base_ = "../imagenet/base_100ep.py"

data = dict(root="data/places205", prepare="python tools/prepare_places.py")
methods = dict(
    mixup=dict(alpha=0.2),
    cutmix=dict(alpha=0.2),
    saliencymix=dict(alpha=0.2),
    fmix=dict(alpha=0.2),
    resizemix=dict(alpha=0.2),
)
