"""Image lists, classes and true boxes or masks: wsolevaluation's CSV files, and the CUB_200_2011 tree itself."""

from wsol.metadata.classes import class_names, match_classes, plain_class_name, read_classes
from wsol.metadata.csv_files import read_metadata
from wsol.metadata.cub import read_cub
from wsol.metadata.finding import find_image, image_size
from wsol.metadata.records import SPLITS, ImageRecord, boxes_digest
from wsol.metadata.splits import read_split

__all__ = [
    "SPLITS",
    "ImageRecord",
    "boxes_digest",
    "class_names",
    "find_image",
    "image_size",
    "match_classes",
    "plain_class_name",
    "read_classes",
    "read_cub",
    "read_metadata",
    "read_split",
]
