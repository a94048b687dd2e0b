"""Drawn detections: matching by hand, colours, labels that stay inside, and finished runs beside each other."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab
from voc_tree import write_voc

from pretrain.console import UserError
from transfer import draw
from transfer.d2.draw import detect, draw_runs, read_run, true_objects
from transfer.d2.features import build_model
from transfer.d2.finetune import Job, finetune
from transfer.d2.weights import load_detector
from transfer.draw import Panel, colour_of, contact_sheet, overlay, side_by_side
from transfer.matching import Objects, match

ROOT = Path(__file__).parents[2]
CLASSES = ("cat", "dog")
SMALL = (
    "SOLVER.MAX_ITER 2 SOLVER.STEPS (1,) SOLVER.WARMUP_ITERS 1 MODEL.FPN.OUT_CHANNELS 16 MODEL.ROI_BOX_HEAD.FC_DIM 16"
)
# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1.0, on linear RGB.
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))


def test_matching_by_hand() -> None:
    """Squares of side 10. Shifted by 2 the IoU is 80 / 120 = 2/3, shifted by 4 it is 60 / 140 = 3/7."""
    truth = Objects.of([(0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)], [0, 0, 1])
    found = Objects.of(
        [(0, 0, 10, 10), (2, 0, 12, 10), (24, 0, 34, 10), (40, 0, 50, 10), (40, 0, 50, 10)],
        [0, 0, 0, 0, 1],
        [0.6, 0.9, 0.8, 0.7, 0.3],
    )
    right, seen = match(truth, found)
    assert right.tolist() == [False, True, False, False, True]  # the surer one takes the first cat; 3/7 < 0.5; a cat
    assert seen.tolist() == [True, False, True]
    assert match(truth, found, 3 / 7)[1].tolist() == [True, True, True]
    nothing = Objects.of([], [], [])
    assert [part.tolist() for part in match(truth, nothing)] == [[], [False] * 3]
    assert [part.tolist() for part in match(nothing, found)] == [[False] * 5, []]
    empty = Objects.of([(5, 5, 5, 5)], [0], [0.5])
    assert match(Objects.of([(5, 5, 5, 5)], [0]), empty)[0].tolist() == [False]  # 0 / 0


def test_a_detection_takes_the_object_that_it_overlaps_most() -> None:
    truth = Objects.of([(0, 0, 10, 10), (2, 0, 12, 10)], [0, 0])
    right, seen = match(truth, Objects.of([(2, 0, 12, 10), (2, 0, 12, 10)], [0, 0], [0.9, 0.8]))
    assert (right.tolist(), seen.tolist()) == ([True, True], [True, True])  # the second takes what is left, at 2/3
    assert match(truth, Objects.of([(2, 0, 12, 10)], [0], [0.9]))[1].tolist() == [False, True]


def test_score_threshold_is_inclusive() -> None:
    found = Objects.of([(0, 0, 1, 1)] * 3, [0, 1, 2], [0.2, 0.5, 0.7]).above(0.5)
    assert (found.labels.tolist(), found.scores.tolist(), len(found.boxes)) == ([1, 2], [0.5, 0.7], 2)


@pytest.mark.parametrize("vision", [np.eye(3).tolist(), DEUTERANOPIA, PROTANOPIA])
def test_colours_of_twenty_classes_differ_for_the_colour_blind(vision: list[list[float]]) -> None:
    """CIELAB distance of the two most similar colours; about 2.3 is just noticeable."""
    colours = np.array([colour_of(label) for label in range(20)]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(vision).T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2)) > 7
    assert [colour_of(label) for label in (21, 79)] == [colour_of(label) for label in (0, 16)]  # 79 = 3 x 21 + 16


def test_right_false_and_missed_look_different() -> None:
    """A grey picture of 400 x 360, drawn at its own size; lines are looked up in the middle of the left edges."""
    image = Image.new("RGB", (400, 360), (128, 128, 128))
    truth = Objects.of([(50, 50, 150, 350), (200, 50, 260, 350)], [0, 1])
    found = Objects.of([(50, 50, 150, 350), (300, 50, 390, 350)], [0, 1], [0.9, 0.8])
    truth_panel, panel = _panels(side_by_side(image, truth, [Panel("truth"), Panel("run", found)], CLASSES), 400, 360)
    edges = {name: panel[100:300, x] for name, x in (("right", 50), ("missed", 200), ("false", 300))}
    assert (edges["right"] == colour_of(0)).all()
    lines = {}
    for name, colour in (("missed", draw.WHITE), ("false", colour_of(1))):
        drawn = (edges[name] == colour).all(axis=1)
        assert 0.3 < drawn.mean() < 0.7  # dashes and gaps
        assert (edges[name][~drawn] == 128).all(axis=1).mean() > 0.3
        lines[name] = np.count_nonzero(np.diff(drawn.astype(int)) == 1)
    assert lines["missed"] > 2 * lines["false"]  # dots are shorter than dashes
    for x, label in ((50, 0), (200, 1)):
        assert (truth_panel[100:300, x] == colour_of(label)).all()
    both = np.asarray(overlay(image, truth, found, CLASSES, 360))
    tenth = [Objects(objects.boxes / 10, objects.labels, objects.scores) for objects in (truth, found)]
    assert (np.asarray(overlay(image.resize((40, 36)), *tenth, CLASSES, 360)) == both).all()
    assert both.shape == (360, 400, 3)
    assert (both[100:300, 50] == colour_of(0)).all()
    assert 0.3 < (both[100:300, 200] == draw.WHITE).all(axis=1).mean() < 0.7
    alone = np.asarray(overlay(image, truth, Objects.of([(60, 50, 160, 350)], [0], [0.9]), CLASSES, 360))
    assert (alone[100:300, 50] == draw.WHITE).all()  # the true box of an object that was seen: thin, white, solid


def _panels(row: Image.Image, width: int, height: int) -> list[np.ndarray]:
    """Cut a row into its panels, without titles and legend."""
    top = 2 * (draw.TEXT + 6)
    count = (row.width + draw.GAP) // (width + draw.GAP)
    assert row.size == (count * (width + draw.GAP) - draw.GAP, height + 3 * (draw.TEXT + 6))
    lefts = [index * (width + draw.GAP) for index in range(count)]
    return [np.asarray(row)[top : top + height, left : left + width] for left in lefts]


@pytest.mark.parametrize("box", [(0, 0, 2, 2), (62, 46, 64, 48), (0, 46, 64, 48), (-9, -9, 90, 90), (31, 0, 33, 48)])
def test_labels_stay_inside_the_picture(box: tuple[int, int, int, int]) -> None:
    labels = draw._Labels(picture := Image.new("RGB", (480, 360)))
    for text in ("cat 0.99", "a class with a name that is by far too long for the width of the picture, " * 2):
        for _ in range(5):
            labels.add(7.5 * np.array(box), text, draw.WHITE, filled=False)
    for (x0, y0, x1, y1), text, *_ in labels._placed:
        assert 0 <= x0 < x1 <= picture.width
        assert 0 <= y0 < y1 <= picture.height
        assert draw._font(draw.TEXT).getlength(text) <= x1 - x0
    assert labels._placed[-1][1].endswith("...")
    areas = [area for area, *_ in labels._placed[:2]]
    assert draw._common(*areas) == 0  # two labels of one box do not cover each other
    labels.draw()


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((128, 96), (480, 360)),
        ((500, 375), (500, 375)),
        ((10, 300), (53, 1600)),
        ((4000, 3000), (1600, 1200)),
    ],
)
def test_small_pictures_are_enlarged_and_huge_ones_reduced(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    nothing = Objects.of([], [], [])
    assert overlay(Image.new("L", size), nothing, nothing, CLASSES, 360).size == drawn


def test_contact_sheet_keeps_every_picture() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    rows = [(f"{size}", Image.new("RGB", (size, 50), colour)) for size, colour in zip((60, 90, 30), colours)]
    sheet = np.asarray(contact_sheet(rows, columns=2))
    for (_, image), colour in zip(rows, colours, strict=True):
        assert (sheet == colour).all(axis=2).sum() == image.width * image.height
    assert contact_sheet(rows[:1], columns=3).width < 90


def test_crowds_are_no_objects() -> None:
    """COCO's boxes are x, y, width, height; a region of a crowd is neither an object nor missed."""
    one = {"bbox": [10, 20, 30, 40], "bbox_mode": 1, "category_id": 1, "iscrowd": 0}
    objects = true_objects({"annotations": [one, {**one, "iscrowd": 1}]})
    assert (objects.boxes.tolist(), objects.labels.tolist()) == ([[10, 20, 40, 60]], [1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A data root and two finished runs, of two iterations each."""
    folder = tmp_path_factory.mktemp("runs")
    write_voc(folder / "data")
    outputs = [folder / "first", folder / "second"]
    config = ROOT / "configs" / "quickstart" / "voc_r18_fpn.yaml"
    for seed, output in enumerate(outputs):
        overrides = [*SMALL.split(), "TEST.PRECISE_BN.NUM_ITER", "1"]
        finetune(Job(config, data_root=folder / "data", output=output, seed=seed, overrides=overrides))
    return folder / "data", outputs


def test_finished_runs_side_by_side(runs: tuple[Path, list[Path]], tmp_path: Path) -> None:
    data, outputs = runs
    images = ["2007_test_2", "2007_test_0"]
    written = draw_runs(outputs, data, images=images, threshold=0.05, out=tmp_path)
    assert [path.name for path in written] == ["2007_test_2.png", "2007_test_0.png", "contact_sheet.png"]
    assert Image.open(written[0]).size == (3 * 480 + 2 * draw.GAP, 360 + 3 * (draw.TEXT + 6))
    assert sorted(tmp_path.iterdir()) == sorted(written)
    command = [sys.executable, str(ROOT / "tools" / "draw_detections.py"), str(outputs[0]), "--data-root", str(data)]
    done = subprocess.run([*command, "--number", "3"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, f"3 pictures and {outputs[0]}/drawn/contact_sheet.png\n"), done.stderr
    done = subprocess.run([*command, "--threshold", "50"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "error: --threshold 50.0: scores lie between 0 and 1\n")
    assert draw_runs(outputs, data, number=1)[0] == outputs[0] / "drawn-second" / "2007_test_0.png"


def test_the_loaded_detector_is_the_trained_one(runs: tuple[Path, list[Path]]) -> None:
    _, [output, _] = runs
    cfg = read_run(output)
    assert not cfg.DATASETS.TRAIN  # the training data need not be there
    model = build_model(cfg)
    assert load_detector(model, output / "model_final.pth") == 2  # iterations
    saved = torch.load(output / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(saved[name], tensor.cpu()) for name, tensor in model.state_dict().items())
    name = runs[0] / "VOCdevkit" / "VOC2007" / "JPEGImages" / "2007_test_0.jpg"
    picture = {"file_name": str(name), "height": 96, "width": 128, "image_id": "0"}
    [found] = detect(cfg, model.train(), [picture], 0.0)
    assert not model.training
    assert found.boxes.max() > 0
    assert (found.boxes[:, 2] <= 128).all()  # pixels of the file
    assert (found.boxes[:, 3] <= 96).all()


def test_refusals(runs: tuple[Path, list[Path]], tmp_path: Path) -> None:
    data, [output, other] = runs
    with pytest.raises(UserError, match="no config.yaml and run.json in it"):
        draw_runs([tmp_path], data)
    with pytest.raises(
        UserError, match=r"model_9\.pth: no such checkpoint; --checkpoint NAME, there: model_final\.pth"
    ):
        draw_runs([output], data, checkpoint="model_9.pth")
    with pytest.raises(UserError, match="--images 2007_test_9: not in voc_2007_test; did you mean '2007_test_"):
        draw_runs([output], data, images=["2007_test_9"])
    with pytest.raises(UserError, match="VOC2007.* is not there"):
        draw_runs([output], tmp_path)
    for name in ("config.yaml", "run.json"):
        (tmp_path / name).write_text((other / name).read_text().replace("voc_2007_test", "coco_2017_val"))
    with pytest.raises(UserError, match=f"tested on coco_2017_val, {output} on voc_2007_test; draw it alone"):
        draw_runs([output, tmp_path], data)
    for name in ("config.yaml", "run.json"):
        (tmp_path / name).write_text((other / name).read_text().replace("FC_DIM: 16", "FC_DIM: 8"))
    (tmp_path / "model_final.pth").write_bytes((other / "model_final.pth").read_bytes())
    with pytest.raises(UserError, match="another detector than the config builds; 6 tensors differ, the first"):
        draw_runs([tmp_path], data)
    (tmp_path / "model_final.pth").write_bytes(b"no file of torch")
    with pytest.raises(UserError, match="not a checkpoint of this tool's runs"):
        draw_runs([tmp_path], data)
    assert not (tmp_path / "drawn").exists()


def test_two_runs_of_one_name_are_told_apart(runs: tuple[Path, list[Path]], tmp_path: Path) -> None:
    from transfer.d2.draw import _titles

    _, [output, other] = runs
    (tmp_path / "run.json").write_text(json.dumps({"start": "random", "seed": 0}))
    assert _titles([output, other]) == ["random, seed 0", "random, seed 1"]
    assert _titles([output, tmp_path]) == ["random, seed 0 (first)", f"random, seed 0 ({tmp_path.name})"]
