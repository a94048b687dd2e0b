"""From counts to figures, in percent: which threshold, and whose, stands with each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pretrain.console import UserError
from wsol.counting.mask_tally import MaskTally
from wsol.counting.tally import TOP_K, BoxTally, Counts
from wsol.errors import IOU, KINDS
from wsol.metrics import MaxBoxAccResult

Table = npt.NDArray[np.int64]  # (number of IoU thresholds, T)


def box_figures(tally: BoxTally, names: Sequence[str], val: BoxTally | None, predictions: int) -> dict[str, Any]:
    """Return every figure of an evaluation over boxes, as plain values; docs/wsol.md says what each one means.

    Args:
        tally: The counts of the evaluated split.
        names: Names of the data's classes.
        val: The counts of val, whose thresholds are applied to the evaluated split too; None for none.
        predictions: Number of the network's classes; figures of Top-5 need more than five.
    """
    counts = tally.counts
    oracle = _result(tally, "hits")
    classes = class_figures(counts, predictions)
    classified, five = classes["top1_cls"] is not None, classes["top5_cls"] is not None
    best = oracle.curve.argmax(axis=1)
    first = _result(tally, "largest")
    centre = _result(tally, "centre")
    return {
        "metric": "MaxBoxAccV2",
        **classes,
        "max_box_acc_v2": _by_iou(tally, counts["hits"].sum(axis=0), best),
        "best_threshold": _named(tally, oracle),
        "max_box_acc_v1": _by_iou(tally, counts["largest"], first.curve.argmax(axis=1)),
        "best_threshold_v1": _named(tally, first),
        "centre_baseline": _by_iou(tally, counts["centre"], centre.curve.argmax(axis=1)),
        "top1_loc": _by_iou(tally, counts["top1_loc"], best) if classified else None,
        "top5_loc": _by_iou(tally, counts["top5_loc"], best) if five else None,
        "chosen_on_val": _chosen_on(val, tally, classified, five) if val else None,
        "errors": _errors(tally, best, classified),
        "per_class": _per_class(tally, names, best, classified),
        "thresholds": tally.metric.thresholds.tolist(),
        "curve": _curves(tally, oracle),
        "centre_curve": _curves(tally, centre),
    }


def mask_figures(tally: MaskTally, predictions: int) -> dict[str, Any]:
    """Return every figure of an evaluation over masks, as `box_figures` does over boxes.

    Raises:
        UserError: No mask holds a pixel of an object.
    """
    try:
        found, centre = tally.result("pixels"), tally.result("centre")
    except RuntimeError as error:
        raise UserError(f"{tally.root}: {error}; are these the masks of this set?") from error
    return {
        "metric": "PxAP",
        **class_figures(tally.counts, predictions),
        "pxap": found.pxap,
        "centre_baseline": {"pxap": centre.pxap},
        "thresholds": found.thresholds.tolist(),
        "precision": _plain(found.precision),
        "recall": found.recall.tolist(),
        "centre_precision": _plain(centre.precision),
        "centre_recall": centre.recall.tolist(),
    }


def class_figures(counts: Counts, predictions: int) -> dict[str, Any]:
    """Return the figures that have nothing to do with places, None for what is not known.

    Args:
        counts: See `wsol.counting.tally.empty_counts`.
        predictions: Number of the network's classes; Top-5 needs more than five.
    """
    images = int(counts["images"].sum())
    classified = int(counts["classified"][0]) == images
    return {
        "images": images,
        "blank_maps": int(counts["blank"][0]),
        "size_mismatches": int(counts["unlike"][0]),
        "top1_cls": 100.0 * int(counts["top1"].sum()) / images if classified else None,
        "top5_cls": 100.0 * int(counts["top5"][0]) / images if classified and predictions > TOP_K else None,
    }


def best_index(tally: BoxTally, iou: int) -> int:
    """Return the place of the score threshold that is best for an IoU threshold in percent."""
    return int(_result(tally, "hits").curve[tally.metric.iou_thresholds.index(iou)].argmax())


def _plain(values: npt.NDArray[np.float64]) -> list[float | None]:
    """Return a list in which a precision without predicted pixels, which no number stands for, is None."""
    return [None if np.isnan(value) else float(value) for value in values]


def _images(tally: BoxTally) -> int:
    return int(tally.counts["images"].sum())


def _result(tally: BoxTally, name: str) -> MaxBoxAccResult:
    table = tally.counts[name]
    return tally.metric.result_of(table.sum(axis=0) if table.ndim == 3 else table, _images(tally))


def _named(tally: BoxTally, result: MaxBoxAccResult) -> dict[str, float]:
    return {str(iou): result.best_threshold[iou] for iou in tally.metric.iou_thresholds}


def _by_iou(tally: BoxTally, table: Table, at: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return the accuracy for each IoU threshold at its score threshold, and their mean."""
    return _with_mean(tally, [100.0 * int(row[place]) / _images(tally) for row, place in zip(table, at)])


def _with_mean(tally: BoxTally, values: Sequence[float]) -> dict[str, float]:
    named = {str(iou): value for iou, value in zip(tally.metric.iou_thresholds, values)}
    return {**named, "mean": float(np.mean(list(named.values())))}


def _curves(tally: BoxTally, result: MaxBoxAccResult) -> dict[str, list[float]]:
    return {str(iou): row.tolist() for iou, row in zip(tally.metric.iou_thresholds, result.curve)}


def _chosen_on(val: BoxTally, tally: BoxTally, classified: bool, five: bool) -> dict[str, Any]:
    """Return the figures at the thresholds that are best on another split; the baseline has a threshold of its own."""
    chosen, centre = _result(val, "hits"), _result(val, "centre")
    at, counts = chosen.curve.argmax(axis=1), tally.counts
    return {
        "split": "val",
        "images": chosen.images,
        "threshold": _named(val, chosen),
        "max_box_acc_v2": _by_iou(tally, counts["hits"].sum(axis=0), at),
        "top1_loc": _by_iou(tally, counts["top1_loc"], at) if classified else None,
        "top5_loc": _by_iou(tally, counts["top5_loc"], at) if five else None,
        "centre_baseline": _by_iou(tally, counts["centre"], centre.curve.argmax(axis=1)),
        "oracle_on_val": _by_iou(val, val.counts["hits"].sum(axis=0), at),
    }


def _errors(tally: BoxTally, best: npt.NDArray[np.int64], classified: bool) -> dict[str, Any]:
    """Return what share of the images is of each kind, at the threshold that is best for the kinds' own IoU."""
    place = best[tally.metric.iou_thresholds.index(IOU)]
    right, wrong = 100.0 * tally.counts["kinds"][:, :, place] / _images(tally)
    top1 = {KINDS[0]: right[0], "wrong class": wrong.sum(), **dict(zip(KINDS[1:], right[1:]))}
    return {
        "iou": IOU,
        "threshold": float(tally.metric.thresholds[place]),
        "gt_known": {kind: float(share) for kind, share in zip(KINDS, right + wrong)},
        "top1": {kind: float(share) for kind, share in top1.items()} if classified else None,
    }


def _per_class(
    tally: BoxTally, names: Sequence[str], best: npt.NDArray[np.int64], classified: bool
) -> list[dict[str, Any]]:
    """Return a row for each class with images, at the split's thresholds."""
    counts, rows = tally.counts, np.arange(len(best))
    return [
        {
            "label": label,
            "name": names[label],
            "images": int(images),
            "top1_cls": 100.0 * int(counts["top1"][label]) / int(images) if classified else None,
            "max_box_acc_v2": _with_mean(tally, (100.0 * counts["hits"][label][rows, best] / images).tolist()),
        }
        for label, images in enumerate(counts["images"])
        if images
    ]
