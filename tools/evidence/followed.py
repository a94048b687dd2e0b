"""What followed from pretraining runs: evaluations, detectors and localisation, found below the same folders."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evidence.groups import Group, Spread
from evidence.runs import find_files, owner_of
from evidence.web import PICTURE_TYPES, embed_picture
from pretrain.console import UserError
from pretrain.files import read_json

EVALUATION, DETECTION, LOCALISATION = "evaluation.json", "results.json", "wsol.json"
METRICS = {  # key of evaluation.json: heading, digits
    "top1": ("top-1\N{NO-BREAK SPACE}%", 2),
    "top5": ("top-5\N{NO-BREAK SPACE}%", 2),
    "ece": ("ECE\N{NO-BREAK SPACE}%", 2),
    "fgsm_error": ("FGSM error\N{NO-BREAK SPACE}%", 1),
    "mixed_acc1": ("mixed: one of two\N{NO-BREAK SPACE}%", 1),
    "mixed_acc2": ("mixed: both\N{NO-BREAK SPACE}%", 1),
    "corruption": ("corrupted\N{NO-BREAK SPACE}%", 1),
}
OVER_LAMBDA = "Masks of the Mix Block over λ"
CAPTIONS = {
    "mixed_cams": "Where the network sees each of the two classes of mixed images (Grad-CAM)",
    "masks_over_lambda": OVER_LAMBDA,
    "masks_over_training": "Masks of the Mix Block over training",
}
PICTURE_WIDTH = 1040  # pixels


@dataclass(frozen=True)
class Evaluated:
    """The evaluations of one network of a group of runs.

    Attributes:
        name: The group's label, or the file's folder where it lies in no run's.
        branch: The network.
        images: The numbers of clean images, of one evaluation or of several.
        metrics: {key of METRICS: spread over the runs}; only what every evaluation has.
        corruptions: {corruption: spread over the runs of the mean over severities}.
        left_out: {metric: reason}.
        pictures: {caption: data URI} of the first run's; calibration apart, since it is small.
        calibration: Data URI, "" where there is none.
    """

    name: str
    branch: str
    images: tuple[int, ...]
    metrics: dict[str, Spread]
    corruptions: dict[str, Spread]
    left_out: dict[str, str]
    pictures: dict[str, str]
    calibration: str


def read_evaluations(roots: Sequence[Path], groups: Sequence[Group], left_out: dict[Path, str]) -> list[Evaluated]:
    """Read every evaluation.json; those of one group's runs and of one network are averaged.

    Args:
        roots: Folders to search.
        groups: Of the page; a file belongs to the run in whose folder it lies, or its checkpoint.
        left_out: Gets the files that hold something else, with the reason.
    """
    labels = {record.folder.resolve(): group.label for group in groups for record in group.records}
    found: dict[tuple[str, str], dict[Path, dict[str, Any]]] = defaultdict(dict)
    for path, content in _read_all(roots, EVALUATION, ("checkpoint", "branch"), left_out):
        name = owner_of(path, content["checkpoint"], labels) or str(path.parent)
        found[name, str(content["branch"])][path] = content
    return [_evaluated(name, branch, files) for (name, branch), files in found.items()]


def _evaluated(name: str, branch: str, files: dict[Path, dict[str, Any]]) -> Evaluated:
    contents = list(files.values())
    corruptions = [_of_corruption(content, "by_corruption") or {} for content in contents]
    drawn = [path for path in sorted(next(iter(files)).parent.iterdir()) if path.suffix in PICTURE_TYPES]
    pictures = {path.stem: embed_picture(path, PICTURE_WIDTH) for path in drawn}
    calibration = pictures.pop("calibration", "")
    return Evaluated(
        name=name,
        branch=branch,
        images=tuple(sorted({content["images"] for content in contents if "images" in content})),
        metrics=_spreads([{key: _metric(content, key) for key in METRICS} for content in contents]),
        corruptions=_spreads([{kind: sum(by) / len(by) for kind, by in one.items() if by} for one in corruptions]),
        left_out={metric: why for content in contents for metric, why in content.get("left_out", {}).items()},
        pictures={CAPTIONS.get(kind, kind.replace("_", " ").capitalize()): uri for kind, uri in pictures.items()},
        calibration=calibration,
    )


def why_left_out(evaluations: Sequence[Evaluated]) -> dict[str, list[str]]:
    """Return {"metric (reason)": the networks for which it was left out}."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in evaluations:
        for metric, why in one.left_out.items():
            found[f"{metric} ({why})"].append(f"{one.name}, {one.branch}")
    return found


def _metric(content: dict[str, Any], key: str) -> float | None:
    return _of_corruption(content, "mean") if key == "corruption" else content.get(key)


def _of_corruption(content: dict[str, Any], key: str) -> Any:
    return (content.get("corruption") or {}).get(key)


def _spreads(rows: Sequence[dict[str, float | None]]) -> dict[str, Spread]:
    """Join the values of each key that no row lacks."""
    joined = {}
    for key in rows[0]:
        values = [value for row in rows if (value := row.get(key)) is not None]
        if len(values) == len(rows):
            joined[key] = Spread(tuple(values))
    return joined


def read_detections(roots: Sequence[Path], page: Path, left_out: dict[Path, str]) -> list[dict[str, Any]]:
    """Read every results.json of a detector: {"framework", "config", "start", "seed", "AP", ..., "link", "path"}."""
    needed = ("framework", "config", "start", "seed", "AP", "AP50", "AP75", "iterations")
    rows = [
        {key: content[key] for key in needed} | _link(path, page)
        for path, content in _read_all(roots, DETECTION, needed, left_out)
    ]
    return sorted(rows, key=lambda row: (row["framework"], row["config"], row["start"], row["seed"]))


def read_localisations(roots: Sequence[Path], page: Path, left_out: dict[Path, str]) -> list[dict[str, Any]]:
    """Read every wsol.json: {"maps", "accuracy" {"30", "50", "70", "mean"}, "centre", "images", "link", "path"}."""
    needed = ("max_box_acc_v2", "centre_baseline", "images")
    return [
        {
            "maps": _maps_of(content, path),
            "accuracy": content["max_box_acc_v2"],
            "centre": content["centre_baseline"],
            "images": content["images"],
        }
        | _link(path, page)
        for path, content in _read_all(roots, LOCALISATION, needed, left_out, _has_means)
    ]


def _has_means(content: dict[str, Any]) -> bool:
    return all(
        isinstance(content[key], dict) and "mean" in content[key] for key in ("max_box_acc_v2", "centre_baseline")
    )


def _maps_of(content: dict[str, Any], path: Path) -> str:
    """Say whose class activation maps were scored."""
    card = content.get("checkpoint") or {}
    words = [str(card[key]) for key in ("method", "branch") if card.get(key)]
    return " ".join(words) or path.parent.name


def _read_all(
    roots: Sequence[Path],
    name: str,
    needed: Sequence[str],
    left_out: dict[Path, str],
    fits: Callable[[dict[str, Any]], bool] = lambda content: True,
) -> list[tuple[Path, dict[str, Any]]]:
    """Read the files of a name below the folders; those that lack a key go to `left_out`."""
    found = []
    for path in find_files(roots, (name,)):
        try:
            content = read_json(path)
        except UserError as error:
            left_out[path] = str(error)
            continue
        lacking = [key for key in needed if key not in content] if isinstance(content, dict) else ["an object"]
        if lacking or not fits(content):
            left_out[path] = f"not as this toolkit writes it; it lacks {', '.join(lacking) or 'a mean'}"
        else:
            found.append((path, content))
    return found


def _link(path: Path, page: Path) -> dict[str, str]:
    """Return the file's address from the page's folder, and the folder as text."""
    relative = os.path.relpath(path.resolve(), page.resolve().parent)
    return {"link": quote(relative), "path": os.path.dirname(relative) or "."}
