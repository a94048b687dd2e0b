"""A tiny PASCAL VOC tree: a red rectangle, class "cat", on a dark noisy ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

ANNOTATION = """<annotation><filename>{name}.jpg</filename>
<size><width>128</width><height>96</height><depth>3</depth></size>
<object><name>cat</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object></annotation>
"""


def write_voc(root: Path) -> None:
    """Write VOC2007 (6 trainval and 4 test pictures) and VOC2012 (4 trainval pictures), 128 x 96, 1-based boxes."""
    generator = np.random.default_rng(0)
    for year, splits in ((2007, {"trainval": 6, "test": 4}), (2012, {"trainval": 4})):
        folder = root / "VOCdevkit" / f"VOC{year}"
        for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (folder / name).mkdir(parents=True)
        for split, number in splits.items():
            names = [f"{year}_{split}_{index}" for index in range(number)]
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
            for name in names:
                pixels = generator.integers(0, 80, (96, 128, 3), dtype=np.uint8)
                x0, y0 = int(generator.integers(1, 70)), int(generator.integers(1, 50))
                pixels[y0 - 1 : y0 + 39, x0 - 1 : x0 + 47] = (200, 40, 40)
                Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
                text = ANNOTATION.format(name=name, x0=x0, y0=y0, x1=x0 + 47, y1=y0 + 39)
                (folder / "Annotations" / f"{name}.xml").write_text(text)
