"""COCO 2017, schedule 1x, with Swin-T (swin_tiny_patch4_window7_224).

What:     faster-rcnn_r50-fpn_1x_coco.py with another backbone, and AdamW. There is no sibling in configs/d2:
          Detectron2 v0.6 has no Swin transformer.
Expected: not published for Faster R-CNN by this recipe. Mask R-CNN has box AP 42.7 from supervised weights
          (MMDetection's configs/swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py: 12 passes at 800 px alone, no norm in the
          pyramid). Not measured by this project.
Cost:     the schedule of faster-rcnn_r50-fpn_1x_coco.py; the detector has 45.2 million parameters, R50's 41.8.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head fpn
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_swin-t-fpn_1x_coco.py \
              --weights OUT.pth --data-root data
"""

# AdamW stands in the place of _base_/sgd.py.
_base_ = [
    "./_base_/faster-rcnn_fpn.py",
    "./_base_/coco.py",
    "./_base_/schedule_1x.py",
    "./_base_/adamw.py",
    "./_base_/runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,  # nothing of a ResNet's settings has a meaning here
        type="SwinTransformer",
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.2,
        frozen_stages=-1,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
