"""Test pictures with their true boxes and the detector's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import BoxMode
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from pretrain.files import atomic_path
from transfer.d2.data import NamingMapper

TRUE_COLOUR = (0, 160, 60)
FOUND_COLOUR = (220, 50, 20)
SHORTER_SIDE = 360  # pixels of the drawn picture at least; small pictures are enlarged, so that labels can be read


@torch.no_grad()
def draw_detections(
    cfg: CfgNode, model: nn.Module, number: int, folder: str | Path, threshold: float = 0.5
) -> list[Path]:
    """Write the first `number` test pictures with true boxes (green) and detections (red, class and score).

    Args:
        cfg: One data set in DATASETS.TEST.
        model: A trained detector.
        number: Pictures to draw.
        folder: Where the PNGs go, `<image id>.png`.
        threshold: Detections of a lower score are left out.

    Returns:
        The files, in the data set's order.
    """
    [name] = cfg.DATASETS.TEST
    classes = MetadataCatalog.get(name).thing_classes
    mapper = NamingMapper(cfg, is_train=False)
    written = []
    model.eval()
    for picture in get_detection_dataset_dicts(name, filter_empty=False)[:number]:
        [output] = model([mapper(picture)])
        found = output["instances"].to("cpu")
        image = Image.open(picture["file_name"]).convert("RGB")
        scale = max(1.0, SHORTER_SIDE / min(image.size))
        image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BICUBIC)
        canvas = ImageDraw.Draw(image)
        for true in picture["annotations"]:
            box = BoxMode.convert(true["bbox"], true["bbox_mode"], BoxMode.XYXY_ABS)
            _box(canvas, np.array(box), scale, TRUE_COLOUR, "")
        keep = found.scores >= threshold
        boxes, scores = found.pred_boxes.tensor[keep].numpy(), found.scores[keep].tolist()
        for box, score, index in zip(boxes, scores, found.pred_classes[keep].tolist()):
            _box(canvas, box, scale, FOUND_COLOUR, f"{classes[index]} {score:.2f}")
        path = Path(folder, f"{Path(picture['file_name']).stem}.png")
        with atomic_path(path) as temporary:
            image.save(temporary, format="PNG")
        written.append(path)
    return written


def _box(canvas: ImageDraw.ImageDraw, box: np.ndarray, scale: float, colour: tuple[int, int, int], label: str) -> None:
    """Draw one box, given as x0, y0, x1, y1 in pixels of the unscaled picture, and its label inside the corner."""
    x0, y0, x1, y1 = (scale * box).tolist()
    canvas.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=2)
    if label:
        font = ImageFont.load_default(size=13)
        area = canvas.textbbox((x0 + 2, max(y0, 0) + 2), label, font=font)
        canvas.rectangle(area, fill=colour)
        canvas.text((x0 + 2, max(y0, 0) + 2), label, fill=(255, 255, 255), font=font)
