"""Test pictures with their true boxes and the detector's; of a run in the making, or of finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from PIL import Image
from torch import nn

from pretrain.console import UserError, did_you_mean, first_few, progress
from pretrain.files import read_json
from transfer.d2.data import NamingMapper, check_classes, register
from transfer.d2.weights import load_detector
from transfer.datasets import data_root
from transfer.draw import Panel, contact_sheet, overlay, save, side_by_side
from transfer.matching import Objects

SHORTER_SIDE = 360  # pixels of a panel at least
ON_A_SHEET = 24  # pictures: a sheet of more is no overview


def draw_detections(
    cfg: CfgNode, model: nn.Module, number: int, folder: str | Path, threshold: float = 0.5
) -> list[Path]:
    """Write the first `number` test pictures with true boxes (white) and detections (class and score).

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
    pictures = get_detection_dataset_dicts(name, filter_empty=False)[:number]
    written = []
    for picture, found in zip(pictures, detect(cfg, model, pictures, threshold), strict=True):
        drawn = overlay(_image(picture), true_objects(picture), found, classes, SHORTER_SIDE)
        written.append(save(drawn, Path(folder, f"{_stem(picture)}.png")))
    return written


def draw_runs(
    folders: Sequence[Path],
    root: Path | None = None,
    number: int = 8,
    images: Sequence[str] = (),
    threshold: float = 0.5,
    checkpoint: str = "model_final.pth",
    out: Path | None = None,
) -> list[Path]:
    """Draw test pictures: the true boxes, and beside them what each finished run detects.

    Args:
        folders: Output folders of tools/finetune_d2.py, one panel each.
        root: Holds VOCdevkit and coco; None for $DATA_ROOT, $DETECTRON2_DATASETS or data/.
        number: The first so many pictures of the test set, where `images` names none.
        images: Ids of pictures, as in the data set, or names of their files without the suffix.
        threshold: Detections of a lower score are left out.
        checkpoint: A file of each run's folder.
        out: Where the PNGs go; None for `drawn` in the first run's folder, with the other runs' names.

    Returns:
        The pictures, `<image id>.png`, and last contact_sheet.png.

    Raises:
        UserError: A folder holds no finished run, the runs were tested on different data, a picture is unknown.
    """
    cfgs = [read_run(folder) for folder in folders]
    [name] = cfgs[0].DATASETS.TEST
    for folder, cfg in zip(folders, cfgs, strict=True):
        if tuple(cfg.DATASETS.TEST) != (name,):
            raise UserError(
                f"{folder}: tested on {first_few(cfg.DATASETS.TEST)}, {folders[0]} on {name}; draw it alone"
            )
        if not (folder / checkpoint).is_file():
            there = first_few((path.name for path in sorted(folder.glob("*.pth"))), 5) or "none"
            raise UserError(f"{folder / checkpoint}: no such checkpoint; --checkpoint NAME, there: {there}")
    register([name], data_root(root))
    for cfg in cfgs:
        check_classes(cfg)
    pictures = _chosen(get_detection_dataset_dicts(name, filter_empty=False), number, images, name)
    titles = _titles(folders)
    found: list[list[Objects]] = []
    with progress("detecting", len(folders) * len(pictures)) as advance:
        for folder, cfg, title in zip(folders, cfgs, titles, strict=True):
            model = build_model(cfg)
            load_detector(model, folder / checkpoint)
            found.append([])
            for picture in pictures:
                found[-1] += detect(cfg, model, [picture], threshold)
                advance(note=title)
    classes = MetadataCatalog.get(name).thing_classes
    out = out or folders[0] / "-".join(["drawn", *(folder.resolve().name for folder in folders[1:])])
    rows, written = [], []
    for picture, detections in zip(pictures, zip(*found, strict=True), strict=True):
        panels = [Panel("ground truth"), *map(Panel, titles, detections)]
        drawn = side_by_side(_image(picture), true_objects(picture), panels, classes, SHORTER_SIDE)
        written.append(save(drawn, out / f"{_stem(picture)}.png"))
        rows.append((_stem(picture), drawn))
    sheet = contact_sheet(rows[:ON_A_SHEET], columns=2 if len(folders) == 1 else 1)
    return [*written, save(sheet, out / "contact_sheet.png")]


@torch.no_grad()
def detect(cfg: CfgNode, model: nn.Module, pictures: Sequence[dict[str, Any]], threshold: float) -> list[Objects]:
    """Return the detections of each picture, boxes in pixels of the file; the model is left in evaluation mode."""
    mapper = NamingMapper(cfg, is_train=False)
    model.eval()
    results = []
    for picture in pictures:
        [output] = model([mapper(picture)])
        found = output["instances"].to("cpu")
        boxes, labels, scores = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist(), found.scores.tolist()
        results.append(Objects.of(boxes, labels, scores).above(threshold))
    return results


def true_objects(picture: dict[str, Any]) -> Objects:
    """Return the true objects of one of Detectron2's dictionaries; COCO's crowd regions are none.

    VOC's difficult objects are among them, which the evaluation neither asks for nor counts as false: Detectron2's
    reader does not say which they are.
    """
    objects = [one for one in picture["annotations"] if not one.get("iscrowd", 0)]
    boxes = [BoxMode.convert(list(one["bbox"]), one["bbox_mode"], BoxMode.XYXY_ABS) for one in objects]
    return Objects.of(boxes, [one["category_id"] for one in objects])


def read_run(folder: Path) -> CfgNode:
    """Return the config of a run's folder, for the device that is here, without its training data.

    Raises:
        UserError: The folder is not one of tools/finetune_d2.py, or its config cannot be read.
    """
    path = folder / "config.yaml"
    if not path.is_file() or not (folder / "run.json").is_file():
        raise UserError(f"{folder}: no config.yaml and run.json in it; give an output folder of tools/finetune_d2.py")
    cfg = get_cfg()
    cfg.set_new_allowed(True)  # keys of the toolkit, or of another version of Detectron2
    try:
        cfg.merge_from_file(str(path))
    except (ValueError, AssertionError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.DATASETS.TRAIN = ()  # they need not be there
    return cfg


def _chosen(pictures: list[dict[str, Any]], number: int, images: Sequence[str], name: str) -> list[dict[str, Any]]:
    """Return the pictures that were asked for."""
    if not images:
        return pictures[:number]
    by_id = {str(picture["image_id"]): picture for picture in pictures}
    by_id |= {_stem(picture): picture for picture in pictures}
    if unknown := [wanted for wanted in images if wanted not in by_id]:
        hint = did_you_mean(unknown[0], list(by_id)) if len(by_id) < 100 else f"; e.g. {first_few(by_id)}"
        raise UserError(f"--images {unknown[0]}: not in {name}{hint}")
    return [by_id[wanted] for wanted in dict.fromkeys(images)]


def _titles(folders: Sequence[Path]) -> list[str]:
    """Return "automix teacher, seed 0" of each run, with the folder's name where two are the same."""
    runs = [read_json(folder / "run.json") for folder in folders]
    titles = [f"{run.get('start', 'unknown start')}, seed {run.get('seed', '?')}" for run in runs]
    return [
        f"{title} ({folder.resolve().name})" if titles.count(title) > 1 else title
        for title, folder in zip(titles, folders, strict=True)
    ]


def _image(picture: dict[str, Any]) -> Image.Image:
    with Image.open(picture["file_name"]) as file:
        return file.convert("RGB")


def _stem(picture: dict[str, Any]) -> str:
    return Path(picture["file_name"]).stem
