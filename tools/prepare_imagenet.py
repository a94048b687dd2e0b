"""Arrange ImageNet-1k as data/imagenet: {train,val}/<wnid>/*.JPEG and the card.

It needs ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, or DIR/train/<wnid>/ and
DIR/val/<wnid>/, or DIR/val/*.JPEG with the devkit.

Examples:
    python tools/prepare_imagenet.py --archives DIR
    python tools/prepare_imagenet.py --extracted DIR                                  images are linked, not copied
    python tools/prepare_imagenet.py --archives DIR --fraction 0.1 --out data/imagenet_tenth
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.command import run
from pretrain.data.prepare.imagenet import IMAGENET


def main() -> None:
    """Arrange the data set and print what there is."""
    run([IMAGENET], __doc__)


if __name__ == "__main__":
    run_tool(main)
