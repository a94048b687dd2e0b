"""What a figure is of: the words and values by which a result can be compared with another."""

from __future__ import annotations

from typing import Any

from wsol.metadata import boxes_digest
from wsol.metadata.val import Splits

BOXES = (
    "Weakly supervised localisation by class activation maps: MaxBoxAccV2 in percent, each IoU threshold at the score "
    "threshold that is best on the evaluated split itself (an oracle), beside the same metric of a centred Gaussian "
    "that does not look at the image."
)
PIXELS = (
    "Weakly supervised localisation by class activation maps: PxAP in percent, the average precision of the pixels of "
    "all images, beside the same metric of a centred Gaussian that does not look at the image."
)
OF_BOXES = {
    "metric": "MaxBoxAccV2",
    "contours": "all",
    "iou_thresholds": [30, 50, 70],
    "threshold_choice": "oracle: best on the evaluated split itself, one for each IoU threshold",
    "centre_baseline": "a Gaussian at the centre, its threshold chosen in the same way",
}
OF_PIXELS = dict.fromkeys(OF_BOXES) | {"metric": "PxAP", "centre_baseline": "a Gaussian at the centre"}


def what(splits: Splits) -> str:
    """Return the sentence that says what is measured."""
    return PIXELS if splits.masks else BOXES


def protocol(splits: Splits, split: str, interval: float, size: tuple[int, int]) -> dict[str, Any]:
    """Return what every evaluation says of itself, None where it has no meaning; docs/wsol.md explains the entries.

    Args:
        splits: The images.
        split: Name of theirs.
        interval: Step of the score thresholds.
        size: Height and width of the score maps.
    """
    return {
        **(OF_PIXELS if splits.masks else OF_BOXES),
        "interval": interval,
        "split": split,
        "records_from": splits.records_from,
        "boxes_sha256": None if splits.masks else boxes_digest(splits.records, size[0]),
        "score_map_size": list(size),
    }
