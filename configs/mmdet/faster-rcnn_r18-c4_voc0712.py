"""Pascal VOC, 24k iterations, with ResNet-18 (resnet18).

What:     faster-rcnn_r50-c4_voc0712.py with another backbone; its shared head is made of BasicBlocks.
Expected: not published for this backbone by this recipe. Not measured by this project.
Cost:     the schedule of faster-rcnn_r50-c4_voc0712.py; the detector has 11.8 million parameters, R50's 33.2.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head c4
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r18-c4_voc0712.py \
              --weights OUT.pth --data-root data
"""

_base_ = "./faster-rcnn_r50-c4_voc0712.py"

model = dict(
    backbone=dict(depth=18),
    rpn_head=dict(in_channels=256, feat_channels=256),
    roi_head=dict(
        shared_head=dict(depth=18),
        bbox_roi_extractor=dict(out_channels=256),
        bbox_head=dict(in_channels=512),
    ),
)
