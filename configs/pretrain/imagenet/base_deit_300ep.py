"""ImageNet-1k, DeiT's procedure, 300 epochs: Table 12 of the paper, second column, without a mixing method.

Batch 1024 at learning rate 1e-3, five epochs of warm-up, cosine to 1e-5, AdamW with weight decay 0.05, label smoothing
0.1, stochastic depth 0.1, random resized crop and flip at 224, test crop 0.875. Of the column's ingredients
RandAugment (9/0.5), repeated augmentation, random erasing (0.25), gradient clipping (1.0) and the moving average of the
weights are not options of this toolkit yet, so a run with it falls short of the column.
"""

_base_ = "base_100ep.py"

data = dict(batch_size=1024)
loss = dict(smoothing=0.1)
optim = dict(
    _delete_=True, name="adamw", lr=1e-3, min_lr=1e-5, momentum=0.9, weight_decay=0.05, warmup_epochs=5, epochs=300
)
