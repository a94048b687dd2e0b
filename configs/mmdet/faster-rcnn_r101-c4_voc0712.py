"""Pascal VOC, 24k iterations, with ResNet-101 (resnet101).

What:     faster-rcnn_r50-c4_voc0712.py with another backbone.
Expected: not published for this backbone by this recipe. Not measured by this project.
Cost:     the schedule of faster-rcnn_r50-c4_voc0712.py; the detector has 52.2 million parameters, R50's 33.2.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head c4
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r101-c4_voc0712.py \
              --weights OUT.pth --data-root data
"""

_base_ = "./faster-rcnn_r50-c4_voc0712.py"

model = dict(backbone=dict(depth=101), roi_head=dict(shared_head=dict(depth=101)))
