"""COCO 2017, schedule 1x, with ResNet-34 (resnet34).

What:     faster-rcnn_r50-fpn_1x_coco.py with another backbone.
Expected: not published for this backbone by this recipe. Not measured by this project.
Cost:     the schedule of faster-rcnn_r50-fpn_1x_coco.py; the detector has 38.8 million parameters, R50's 41.8.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head fpn
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r34-fpn_1x_coco.py \
              --weights OUT.pth --data-root data
"""

_base_ = "./faster-rcnn_r18-fpn_1x_coco.py"  # whose numbers of channels are this one's, too

model = dict(backbone=dict(depth=34))
