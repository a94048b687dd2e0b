"""PASCAL VOC and COCO for detection: unpacking the official archives, and checking what lies in the tree."""
