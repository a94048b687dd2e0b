"""CUB-200-2011, 200 epochs from ImageNet weights (Section 4.2): the paper's settings without a mixing method.

Batch 16 at learning rate 1e-3, cosine to 0, SGD with momentum 0.9 and weight decay 5e-4, random resized crop and flip
at 224; test: resize to 256, crop 224. The start is torchvision's weights, which timm downloads as "tv_in1k", or any
exported backbone: --cfg-options backbone.pretrained=RUN/export/model.safetensors. The paper does not state the range
of the crop; it is that of the authors' code, 0.5 to 1 of the area.
"""

data = dict(
    root="data/cub200",
    prepare="arrange CUB-200-2011 as data/cub200/{train,val}/<class>/*.jpg (docs/pretraining.md)",
    batch_size=16,
    workers=4,
    transform=dict(size=224, train_crop="resized", scale=(0.5, 1.0), test_crop_ratio=0.875),
)
optim = dict(name="momentum", lr=1e-3, min_lr=0.0, momentum=0.9, weight_decay=5e-4, epochs=200)
run = dict(precision="32-true", channels_last=True, log_every=100)
