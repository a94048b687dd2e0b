"""COCO 2017, 1x schedule (90k iterations): Faster R-CNN R50-FPN with every norm trained, as MoCo's FPN variants do it.

What:     Faster R-CNN R50-FPN; training on train2017 (118k images), test on val2017.
Expected: about 38 box AP from supervised weights: MMDetection's own model zoo lists 37.4 for R50-FPN 1x with frozen
          norms and one training scale. Not yet measured with this configuration.
Cost:     8 GPUs, about half a day of V100. On a CPU: months.
Command:  torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-fpn_1x_coco.py \
              --weights OUT.pth --data-root data --launcher pytorch
          OUT.pth: python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head fpn
"""

_base_ = ["./_base_/faster-rcnn_fpn.py", "./_base_/coco.py", "./_base_/sgd.py", "./_base_/runtime.py"]

train_cfg = dict(type="ResumableLoop", max_iters=90000, val_interval=90000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=90000, milestones=[60000, 80000], gamma=0.1),
]
