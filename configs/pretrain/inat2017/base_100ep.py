"""iNaturalist 2017, 100 epochs from scratch (Section 4.2): ImageNet's PyTorch-style settings, appendix A.1's alphas."""

_base_ = "../imagenet/base_100ep.py"

data = dict(root="data/inat2017", prepare="python tools/prepare_inat.py inat2017")
methods = dict(mixup=dict(alpha=0.2))
