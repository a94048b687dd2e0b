"""The paper's Table 8 beside a result: its figures, and whether the result may be compared with them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pretrain.backbones import BackboneCard

TABLE_8 = Path(__file__).parents[2] / "configs" / "tables" / "wsol" / "table_8.csv"
# timm's architecture: the paper's name, and the config whose classifiers fill the table's column.
COLUMNS = {"resnet18": ("R-18", "cub200/r18_200ep"), "resnext50_32x4d": ("RX-50", "cub200/rx50_200ep")}
CUB_TEST_BOXES = "e3557e61b70252ce"  # the digest of CUB's test boxes at 224 x 224 begins so
CUB_TEST_CENTRE = 56.83  # percent, MaxBoxAccV2 of the centred Gaussian on CUB's test split
UNSAID = "the paper tells neither the resolution of its maps nor how its score threshold was chosen"


@cache
def table_8() -> dict[str, dict[str, float]]:
    """Return {config: {method: percent}}, columns and methods in the paper's order."""
    lines = [line for line in TABLE_8.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    return {config: {row["method"]: float(row[config]) for row in rows} for config in rows[0] if config != "method"}


def beside(card: BackboneCard | None, protocol: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what wsol.json has under "paper"; None for a network or a metric that the table has no column for.

    Args:
        card: Of the classifier; None where score maps came without one.
        protocol: How the result was measured: wsol.json's "protocol".

    Returns:
        Plain values: the table, the paper's name of the backbone, the config that trains it, {method: percent}, which
        of the methods the classifier was trained by (None: none of them), the methods below the centred Gaussian,
        whether the result is comparable, and why or why not, in words.
    """
    arch = card.arch.split(".")[0] if card else ""
    if card is None or arch not in COLUMNS or protocol["metric"] != "MaxBoxAccV2":
        return None
    backbone, config = COLUMNS[arch]
    figures = table_8()[config]
    differences = _differences(protocol)
    why = "; ".join(differences) if differences else f"the same images, boxes and metric; {UNSAID}"
    trained_by = str(card.training.get("name") or "another recipe")
    if not differences and trained_by != config:
        why += f"; its classifiers were trained as {config} is, and this one by {trained_by}"
    return {
        "table": 8,
        "backbone": backbone,
        "config": config,
        "figures": dict(figures),
        "method": card.method if card.method in figures else None,
        "below_centre": [method for method, figure in figures.items() if figure < CUB_TEST_CENTRE],
        "centre": CUB_TEST_CENTRE,
        "comparable": not differences,
        "why": why,
    }


def _differences(protocol: Mapping[str, Any]) -> list[str]:
    """Return in words how the measurement differs from the reference's own on CUB's test split."""
    digest, label = str(protocol.get("boxes_sha256", "")), protocol.get("label", "an unknown class")
    found = []
    if not digest.startswith(CUB_TEST_BOXES):
        found.append("the boxes are not those of CUB's test split at 224 x 224")
    if protocol["split"] != "test":
        found.append(f"the split is {protocol['split']}, not test")
    if protocol["interval"] != 0.001:
        found.append(f"the interval of the score thresholds is {protocol['interval']:g}, not 0.001")
    if protocol.get("contours", "all") != "all":
        found.append("not all contours are counted")
    if list(protocol["iou_thresholds"]) != [30, 50, 70]:
        found.append(f"the IoU thresholds are {', '.join(map(str, protocol['iou_thresholds']))}, not 30, 50, 70")
    if protocol.get("cam") != "cam":
        found.append(f"the maps are of '{protocol.get('cam', 'an unknown method')}', not plain class activation maps")
    if label != "true class":
        found.append(f"the maps are of the {label}, not of the true class")
    return found
