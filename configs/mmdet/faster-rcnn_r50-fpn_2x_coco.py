"""COCO 2017, R50-FPN, schedule 2x.

What:     Faster R-CNN R50-FPN, trained on train2017 (117,266 pictures with objects), tested on val2017 (5,000).
          The sibling in Detectron2: configs/d2/coco_r50_fpn_2x.yaml.
Expected: not published for Faster R-CNN by this recipe. Mask R-CNN has box AP 41.7, mask AP 37.6 from MoCo v2's
          weights of 200 epochs (limbo0000/InstanceLoc, docs/MODELZOO.md; Detectron2). Not measured by this project.
Cost:     180,000 iterations of 16 pictures at 640..800 px: 25 passes over the data; meant for 8 GPUs.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head fpn
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-fpn_2x_coco.py \
              --weights OUT.pth --data-root data
"""

_base_ = [
    "./_base_/faster-rcnn_fpn.py",
    "./_base_/coco.py",
    "./_base_/schedule_2x.py",
    "./_base_/sgd.py",
    "./_base_/runtime.py",
]
