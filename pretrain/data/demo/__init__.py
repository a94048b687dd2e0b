"""Semi-synthetic demo scenes: drawings on photographs, in the layouts of ImageNet, VOC, COCO and CUB-200-2011."""

from pretrain.data.demo.settings import DemoSettings
from pretrain.data.demo.write import DemoSummary, scene, write_demo

__all__ = ["DemoSettings", "DemoSummary", "scene", "write_demo"]
