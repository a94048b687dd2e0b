"""Pictures of score maps over their images, with the true and the estimated boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from pretrain.console import progress
from pretrain.files import atomic_path
from wsol.images import read_rgb
from wsol.metadata import ImageRecord, find_image, plain_class_name
from wsol.metrics import box_iou
from wsol.tally import Tally

TRUE_COLOUR, ESTIMATE_COLOUR = "#00c020", "#ff2020"
IOU_THRESHOLD = 50  # the pictures show the score threshold that is best for this IoU, in percent


def draw_overlay(
    path: str | Path,
    image: Image.Image,
    score_map: npt.NDArray[np.float64],
    true_boxes: npt.NDArray[np.int64],
    estimated_boxes: npt.NDArray[np.int64],
    title: str = "",
    note: str = "",
) -> None:
    """Write a PNG: the image with its boxes, and beside it the same under its score map.

    Args:
        path: Where to write.
        image: The image, of any size.
        score_map: (H, W) float64 in [0, 1].
        true_boxes: (n, 4) int, x0, y0, x1, y1 in pixels of the score map; drawn green.
        estimated_boxes: (m, 4) int, likewise; drawn red.
        title: A line above the pictures.
        note: Words behind "estimated" in the legend.
    """
    height, width = score_map.shape
    shape = image.height / image.width
    figure = Figure(figsize=(4.8, 2.35 * min(max(shape, 0.4), 2.0) + 0.65), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for axis in axes:
        # Boxes live on the score map's pixels, so the image is stretched onto them; the aspect undoes it again.
        axis.imshow(image, extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect=shape * width / height)
        axis.set_axis_off()
    axes[1].imshow(score_map, cmap="jet", vmin=0, vmax=1, alpha=0.5, aspect=shape * width / height)
    for axis in axes:
        for boxes, colour, thickness in ((true_boxes, TRUE_COLOUR, 2.6), (estimated_boxes, ESTIMATE_COLOUR, 1.6)):
            for x0, y0, x1, y1 in np.asarray(boxes).tolist():
                corner = (x0 - 0.5, y0 - 0.5)
                axis.add_patch(
                    Rectangle(corner, x1 - x0 + 1, y1 - y0 + 1, fill=False, edgecolor=colour, linewidth=thickness)
                )
    figure.suptitle(title, fontsize=9)
    figure.legend(
        [Line2D([], [], color=TRUE_COLOUR, linewidth=2.6), Line2D([], [], color=ESTIMATE_COLOUR, linewidth=1.6)],
        ["true", f"estimated{', ' if note else ''}{note}"],
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


class OverlayCollector:
    """Keeps the score maps of a few images, until the best threshold is known and they can be drawn.

    Args:
        records: The whole split.
        count: How many images, spread evenly over the split; 0 for none.
        data: Root of the images; may be None only for no pictures.
    """

    def __init__(self, records: Sequence[ImageRecord], count: int, data: str | Path | None) -> None:
        places = np.linspace(0, len(records) - 1, max(min(count, len(records)), 0)).round().astype(int)
        self._wanted = {records[place].image_id for place in places}
        self._kept: list[tuple[ImageRecord, npt.NDArray[np.float64]]] = []
        self._data = data

    def add(self, record: ImageRecord, score_map: npt.NDArray[np.float64]) -> None:
        """Keep the score map (H, W) if its image is one of the chosen."""
        if record.image_id in self._wanted:
            self._kept.append((record, score_map))

    def draw(self, tally: Tally, folder: Path) -> list[str]:
        """Draw the kept maps into `folder` and return the names of the files, with the folder's own before them.

        The estimated box is the one that the metric credits: of all at the best threshold for an IoU of 50 %, the one
        of the highest IoU. Pictures of an earlier run in the folder are removed.
        """
        for earlier in folder.glob("[0-9][0-9][0-9]_*.png"):
            earlier.unlink()
        if not self._kept or self._data is None:
            return []
        threshold = tally.metric.compute().best_threshold[IOU_THRESHOLD]
        index = int(np.flatnonzero(tally.metric.thresholds == threshold)[0])
        names = []
        with progress("pictures", len(self._kept)) as advance:
            for number, (record, score_map) in enumerate(self._kept):
                true = record.boxes_at(score_map.shape[1], score_map.shape[0])
                found = tally.metric.estimate(score_map).at(index)
                iou = box_iou(found, true).max(axis=1)
                best = int(iou.argmax())
                stem = re.sub(r"[^\w.-]+", "_", Path(record.image_id).stem)
                path = folder / f"{number:03d}_{stem}.png"
                draw_overlay(
                    path,
                    read_rgb(find_image(self._data, record.image_id)),
                    score_map,
                    true,
                    found[best : best + 1],
                    title=plain_class_name(Path(record.image_id).parent.name).replace("_", " "),
                    note=f"threshold {threshold:.3f}, best of {len(found)}, IoU {iou[best]:.2f}",
                )
                names.append(f"{folder.name}/{path.name}")
                advance()
        return names
