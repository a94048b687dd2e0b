"""ImageNet-1k, PyTorch-style 100 epochs: Table 12 of the paper, first column.

Batch 256 at learning rate 0.1, cosine to 0, SGD with momentum 0.9 and weight decay 1e-4, random resized crop and flip
at 224, test crop 0.875. No step decay, no ColorJitter, no PCA lighting (appendix A.1).
"""

_base_ = "../methods.py"

data = dict(
    root="data/imagenet",
    prepare="python tools/prepare_imagenet.py",
    batch_size=256,
    workers=8,
    transform=dict(size=224, train_crop="resized", scale=(0.08, 1.0), test_crop_ratio=0.875),
)
optim = dict(name="momentum", lr=0.1, min_lr=0.0, lr_batch_size=256, momentum=0.9, weight_decay=1e-4, epochs=100)
run = dict(precision="32-true", channels_last=True, log_every=100)
