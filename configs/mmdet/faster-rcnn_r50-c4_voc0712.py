"""Pascal VOC, 24k iterations (the paper's Table 7, left).

What:     Faster R-CNN R50-C4, trained on VOC 2007 + 2012 trainval (16,551 pictures), tested on VOC 2007 test
          (4,952 pictures) by the 11-point metric. The sibling in Detectron2: configs/d2/voc_r50_c4_24k.yaml.
Expected: AP50 81.0 from vanilla, 81.9 from CutMix, 82.1 from ResizeMix, 82.4 from AutoMix (the paper's Table 7; its
          VOC "mAP" is AP50). MoCo has AP50 81.3, AP 53.5, AP75 58.8 from supervised weights (arXiv:1911.05722) and
          states a standard deviation of 0.2 AP50 over five trials: so run several seeds, report mean and deviation.
          All of these are Detectron2's. Not measured by this project.
Cost:     24,000 iterations of 16 pictures at 480..800 px: 23 passes over the data; meant for 8 GPUs.
Command:  python tools/convert_to_mmdet.py CHECKPOINT OUT.pth --head c4
          torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-c4_voc0712.py \
              --weights OUT.pth --data-root data
"""

_base_ = [
    "./_base_/faster-rcnn_c4.py",
    "./_base_/voc0712.py",
    "./_base_/schedule_24k.py",
    "./_base_/sgd.py",
    "./_base_/runtime.py",
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
