"""COCO 2017, R50-C4, schedule 1x.

What:     Faster R-CNN R50-C4, trained on train2017 (117,266 pictures with objects), tested on val2017 (5,000).
          The sibling in Detectron2: configs/d2/coco_r50_c4_1x.yaml.
Expected: not published for Faster R-CNN by this recipe. Mask R-CNN has box AP 38.9, mask AP 34.1 from MoCo v2's
          weights of 200 epochs (limbo0000/InstanceLoc, docs/MODELZOO.md).
          From supervised weights box AP 38.2, AP50 58.2, AP75 41.2 (MoCo, arXiv:1911.05722, Table 5). Both in
          Detectron2. Not measured by this project.
Cost:     90,000 iterations of 16 pictures at 640..800 px: 12 passes over the data; meant for 8 GPUs.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head c4
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-c4_1x_coco.py \
              --weights OUT.pth --data-root data
"""

_base_ = [
    "./_base_/faster-rcnn_c4.py",
    "./_base_/coco.py",
    "./_base_/schedule_1x.py",
    "./_base_/sgd.py",
    "./_base_/runtime.py",
]
