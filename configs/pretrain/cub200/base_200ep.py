"""CUB-200-2011, 200 epochs from ImageNet weights (Section 4.2): the paper's settings.

Batch 16 at learning rate 1e-3, cosine to 0, SGD with momentum 0.9 and weight decay 5e-4, random resized crop and flip
at 224; test: resize to 256, crop 224. The start is torchvision's weights, which timm downloads as "tv_in1k", or any
exported backbone: --cfg-options backbone.pretrained=RUN/export/model.safetensors. The paper does not state the range
of the crop; it is that of the authors' code, 0.5 to 1 of the area. The alphas are appendix A.1's.
"""

_base_ = "../methods.py"

data = dict(
    root="data/cub200",
    prepare="python tools/prepare_cub.py",
    batch_size=16,
    workers=4,
    transform=dict(size=224, train_crop="resized", scale=(0.5, 1.0), test_crop_ratio=0.875),
)
methods = dict(manifoldmix=dict(alpha=0.5), saliencymix=dict(alpha=0.2), fmix=dict(alpha=0.2))
optim = dict(name="momentum", lr=1e-3, min_lr=0.0, lr_batch_size=16, momentum=0.9, weight_decay=5e-4, epochs=200)
run = dict(precision="32-true", channels_last=True, log_every=100)
