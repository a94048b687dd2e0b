"""Faster R-CNN in MMDetection: the backbone's features for the proof of a conversion, and fine-tuning.

Importing this package makes MMDetection importable with the mmcv that is installed (`MMCV` says which).
"""

from transfer.compat import prepare_mmcv

MMCV = prepare_mmcv()
