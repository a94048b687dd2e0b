"""COCO 2017, schedule 2x (the paper's Table 7, right).

What:     Faster R-CNN R50-C4, trained on train2017 (117,266 pictures with objects), tested on val2017 (5,000).
          Whether the paper trained Faster or Mask R-CNN: configs/d2/coco_r50_c4_2x.yaml, the sibling in Detectron2.
Expected: AP 38.1, AP50 59.1, AP75 41.8 from vanilla; 38.6, 59.5, 42.2 from AutoMix (the paper's Table 7, in
          Detectron2). Not measured by this project.
Cost:     180,000 iterations of 16 pictures at 640..800 px: 25 passes over the data; meant for 8 GPUs.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head c4
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-c4_2x_coco.py \
              --weights OUT.pth --data-root data
"""

_base_ = [
    "./_base_/faster-rcnn_c4.py",
    "./_base_/coco.py",
    "./_base_/schedule_2x.py",
    "./_base_/sgd.py",
    "./_base_/runtime.py",
]
