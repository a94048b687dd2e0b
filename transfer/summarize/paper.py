"""The paper's Table 7: its columns, its figures, and which configs train them."""

from __future__ import annotations

import ast
import csv
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from transfer.finetuning.settings import settings_of
from transfer.summarize.runs import FIGURES, OF_THE_MACHINE, Run

CONFIGS = Path(__file__).parents[2] / "configs"
TABLE_7 = CONFIGS / "tables" / "detection" / "table_7.csv"
TITLES = {
    "voc_r50_c4_24k/AP50": "VOC mAP (AP50)",
    "coco_r50_c4_2x/AP": "COCO mAP (AP)",
    "coco_r50_c4_2x/AP50": "COCO AP50",
    "coco_r50_c4_2x/AP75": "COCO AP75",
}
SAME_PROTOCOL = {  # MMDetection's configs of the same columns
    "faster-rcnn_r50-c4_voc0712": "voc_r50_c4_24k",
    "faster-rcnn_r50-c4_2x_coco": "coco_r50_c4_2x",
}
# The card of the weights decides these, and they stand in no config.
OF_THE_CARD = {
    *("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1"),
    *("model.data_preprocessor.mean", "model.data_preprocessor.std"),
}
OWN_DEFAULTS = {"SOLVER.OPTIMIZER": "SGD"}  # the toolkit's own key, which Detectron2's defaults lack


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: As it is printed.
        figure: "AP", "AP50" or "AP75".
        paper: {method: figure of the paper in percent}; empty where the paper has no such column.
    """

    title: str
    figure: str
    paper: dict[str, float] = field(default_factory=dict)


@cache
def table_7() -> dict[str, dict[str, float]]:
    """Return {"config/figure": {method: percent}}, columns and methods in the paper's order."""
    lines = [line for line in TABLE_7.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    return {name: {row["method"]: float(row[name]) for row in rows} for name in rows[0] if name != "method"}


def methods() -> list[str]:
    """Return the paper's methods, in its order."""
    return list(next(iter(table_7().values())))


def columns_of(run: Run) -> list[Column]:
    """Return the columns that the run's config fills: the paper's, or AP, AP50 and AP75 where it is none of Table 7.

    A run of another length than its config's is none of Table 7 either.
    """
    protocol = protocol_of(run)
    if protocol is None or int(run.settings["iterations"]) != iterations_of(protocol):
        return [Column(name, name) for name in FIGURES]
    of_config = {name: paper for name, paper in table_7().items() if name.split("/")[0] == protocol}
    return [Column(TITLES[name], name.split("/")[1], paper) for name, paper in of_config.items()]


def protocol_of(run: Run) -> str | None:
    """Return the name of the Detectron2 config whose protocol the run's config is, None if it is none of Table 7."""
    name = SAME_PROTOCOL.get(run.config, run.config)
    return name if any(column.startswith(f"{name}/") for column in table_7()) else None


def iterations_of(protocol: str) -> int:
    """Return how long the protocol trains."""
    return int(_written(CONFIGS / "d2" / f"{protocol}.yaml")["SOLVER.MAX_ITER"])


def departures(run: Run) -> dict[str, str]:
    """Return {key: value} of the settings in which the run of a config of Table 7 departs from it.

    A Detectron2 setting that was put back to Detectron2's own default is not seen: results.json has what differs
    from the defaults.
    """
    protocol = protocol_of(run)
    if protocol is None:
        return {}
    settings = {key: value for key, value in run.settings.items() if key != "iterations"}
    if run.config in SAME_PROTOCOL:
        written = _written_for_mmdet(CONFIGS / "mmdet" / f"{run.config}.py")
    else:
        written = {**OWN_DEFAULTS, **_written(CONFIGS / "d2" / f"{protocol}.yaml")}
    published = {key: json.dumps(value) for key, value in written.items()}
    return {key: value for key, value in settings.items() if key not in OF_THE_CARD and value != published.get(key)}


@cache
def _written_for_mmdet(path: Path) -> dict[str, Any]:
    """Return {"a.b": value} of a MMDetection configuration, as its runs record it."""
    from mmengine.config import Config  # late: it takes a second, and only runs of MMDetection need it

    cfg = Config.fromfile(path, import_custom_modules=False)
    return settings_of(cfg, cfg.auto_scale_lr.base_batch_size)


@cache
def _written(path: Path) -> dict[str, Any]:
    """Return {"A.B": value} of a Detectron2 YAML and its `_BASE_`, tuples as lists, as JSON has them."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = content.pop("_BASE_", None)
    flat: dict[str, Any] = dict(_written(path.parent / base)) if base else {}
    nodes = [("", content)]
    for prefix, node in nodes:
        for key, value in node.items():
            if isinstance(value, dict):
                nodes.append((f"{prefix}{key}.", value))
            elif f"{prefix}{key}" not in OF_THE_MACHINE:
                is_tuple = isinstance(value, str) and value.startswith("(")  # YAML has none; Detectron2 evaluates it
                flat[f"{prefix}{key}"] = list(ast.literal_eval(value)) if is_tuple else value
    return flat
