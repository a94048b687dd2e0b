"""Evaluations of other kinds: thresholds of val, other types of maps, masks, several processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.console import UserError
from wsol import MaxBoxAcc
from wsol.evaluate import evaluate_checkpoint, evaluate_scoremaps
from wsol.metadata import read_metadata
from wsol.pxap import PxAP
from wsol.settings import Settings

TOOL = Path(__file__).parents[2] / "tools" / "eval_wsol.py"
SMALL = Settings(input_size=64, interval=0.01, batch_size=4, sheet=0)


@pytest.fixture
def with_val(tree, metadata: Path) -> Path:
    """The test split, and val beside it: the tree's train images."""
    val = metadata.parent / "val"
    val.mkdir()
    lines = {name: [] for name in ("image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt")}
    for number, image_id in enumerate(tree.ids):
        if number % 2 == 0:
            x, y, w, h = tree.boxes[number].tolist()
            lines["image_ids.txt"].append(image_id)
            lines["class_labels.txt"].append(f"{image_id},{number // 4}")
            lines["image_sizes.txt"].append(f"{image_id},{tree.sizes[number][0]},{tree.sizes[number][1]}")
            lines["localization.txt"].append(f"{image_id},{x},{y},{x + w},{y + h}")
    for name, each in lines.items():
        (val / name).write_text("\n".join(each))
    return metadata.parent


@pytest.fixture
def maps(with_val: Path, tmp_path: Path) -> Path:
    """Score maps of both splits; what is not 0 takes each 8-bit value, so that no type of map can round it away."""
    rng = np.random.default_rng(5)
    for split in ("test", "val"):
        for record in read_metadata(with_val / split):
            pixels = rng.integers(0, 256, (6, 6)).astype(np.uint8).repeat(6, axis=0).repeat(6, axis=1)
            path = tmp_path / "maps" / f"{record.image_id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, pixels / 255)
    return tmp_path / "maps"


def test_thresholds_of_val_are_those_of_an_evaluation_of_val(with_val: Path, maps: Path, tmp_path: Path) -> None:
    found = evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)
    alone = evaluate_scoremaps(maps, tmp_path, with_val, settings=replace(SMALL, split="val"))
    chosen = found["chosen_on_val"]
    assert chosen["threshold"] == alone["best_threshold"]
    assert chosen["oracle_on_val"] == alone["max_box_acc_v2"]
    assert alone["chosen_on_val"] is None
    for iou in ("30", "50", "70"):
        place = found["thresholds"].index(chosen["threshold"][iou])
        assert chosen["max_box_acc_v2"][iou] == found["curve"][iou][place] <= found["max_box_acc_v2"][iou]


def test_when_no_threshold_is_chosen_it_is_said_why(with_val: Path, maps: Path, tmp_path: Path) -> None:
    settings = replace(SMALL, threshold_from="none")
    assert evaluate_scoremaps(maps, tmp_path, with_val, settings=settings)["why_no_val"] == "not asked for"
    alone = evaluate_scoremaps(maps, tmp_path, with_val / "test", settings=SMALL)
    assert alone["why_no_val"] == "there are no metadata of val"
    with pytest.raises(UserError, match="no threshold can be chosen on val"):
        evaluate_scoremaps(maps, tmp_path, with_val / "test", settings=replace(SMALL, threshold_from="val"))
    for record in read_metadata(with_val / "val"):
        (maps / f"{record.image_id}.npy").unlink()
    assert (
        evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)["why_no_val"] == "there are no score maps of val"
    )
    with pytest.raises(UserError, match="no such score map"):
        evaluate_scoremaps(maps, tmp_path, with_val, settings=replace(SMALL, threshold_from="val"))


def test_a_threshold_may_not_be_chosen_on_the_images_it_is_applied_to(
    with_val: Path, maps: Path, tmp_path: Path
) -> None:
    shutil.copytree(with_val / "test", with_val / "val", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"6 of its images are of the split 'test' too \(001\.Black"):
        evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_maps_of_other_types_give_the_same_figures_and_are_told(
    with_val: Path, maps: Path, tmp_path: Path, dtype: str
) -> None:
    before = evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)
    assert before["protocol"]["score_map_dtypes"] == ["float64"]
    for path in maps.rglob("*.npy"):
        score_map = np.load(path)
        np.save(path, (score_map * 255).round().astype(np.uint8) if dtype == "uint8" else score_map.astype(dtype))
    done = subprocess.run(
        [sys.executable, str(TOOL), "--scoremaps", str(maps), "--metadata", str(with_val), "--interval", "0.01"]
        + ["--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = json.loads((tmp_path / "out" / "wsol.json").read_text())
    assert after["protocol"]["score_map_dtypes"] == [dtype]
    assert f"on disk they are {dtype}" in done.stdout
    assert after["curve"] == before["curve"]
    assert after["chosen_on_val"] == before["chosen_on_val"]


def test_the_predicted_class_and_grad_cam_are_other_maps(tree, checkpoint: Path, tmp_path: Path) -> None:
    plain = evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=SMALL)
    predicted = evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=replace(SMALL, label="predicted"))
    assert predicted["protocol"]["label"] == "predicted class"
    assert predicted["curve"] != plain["curve"]
    assert predicted["top1_cls"] == plain["top1_cls"]
    gradcam = evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=replace(SMALL, cam="gradcam"))
    assert "Grad-CAM" in gradcam["protocol"]["cam_made_by"]
    assert gradcam["protocol"]["map_size"] == [4, 4]
    assert gradcam["curve"] != plain["curve"]


def test_masks_are_measured_by_pxap(metadata: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    records = read_metadata(metadata)
    ids = [record.image_id for record in records]
    metric, lines = PxAP(0.01), []
    for place, image_id in enumerate(ids):
        mask = rng.integers(0, 2, (20, 30)).astype(np.uint8)
        ignore = (rng.random((20, 30)) < 0.2).astype(np.uint8)
        score_map = rng.random((20, 30))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask * 255).save(tmp_path / "masks" / f"{place}.png")
        Image.fromarray(ignore * 255).save(tmp_path / "masks" / f"{place}_ignore.png")
        path = tmp_path / "maps" / f"{image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, score_map)
        lines.append(f"{image_id},masks/{place}.png,masks/{place}_ignore.png")
        metric.update(score_map, np.where(mask == 1, 1, np.where(ignore == 1, 255, 0)).astype(np.uint8))
    (metadata / "localization.txt").write_text("\n".join(lines))
    found = evaluate_scoremaps(tmp_path / "maps", tmp_path / "out", metadata, masks=tmp_path, settings=SMALL)
    assert found["metric"] == found["protocol"]["metric"] == "PxAP"
    assert found["pxap"] == metric.compute().pxap
    assert 0 < found["centre_baseline"]["pxap"] < 100
    assert found["images"] == 6
    assert found["pictures"] == {"curves": "curves.png"}
    assert (tmp_path / "out" / "curves.png").is_file()
    json.dumps(found, allow_nan=False)
    with pytest.raises(UserError, match="--masks DIR"):
        evaluate_scoremaps(tmp_path / "maps", tmp_path / "out", metadata, settings=SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_give_the_figures_of_one(
    tree, with_val: Path, checkpoint: Path, tmp_path: Path, processes: int
) -> None:
    options = ["--checkpoint", checkpoint, "--data", tree.root, "--metadata", with_val, "--input-size", 64]
    options += ["--interval", 0.01, "--draw", 2, "--sheet", 2, "--device", "cpu", "--batch-size", 1]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    results = {}
    for name, launcher in {"one": [], "more": torchrun}.items():
        out = tmp_path / name
        subprocess.run(
            [sys.executable, *launcher, str(TOOL), *map(str, options), "--out", str(out), "--scoremaps", str(out)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        results[name] = json.loads((out / "wsol.json").read_text())
        results[name].pop("seconds")
    assert results["one"] == results["more"]
    assert (tmp_path / "one" / "images.csv").read_text() == (tmp_path / "more" / "images.csv").read_text()
    again = evaluate_scoremaps(tmp_path / "more", tmp_path, with_val, settings=SMALL)  # the maps of every process
    assert again["curve"] == results["one"]["curve"]


def test_the_evaluation_of_maps_is_the_metric_itself(with_val: Path, maps: Path, tmp_path: Path) -> None:
    for contours, name in (("all", "v2"), ("largest", "v1")):
        metric = MaxBoxAcc(0.01, contours=contours)
        for record in read_metadata(with_val / "test"):
            metric.update(np.load(maps / f"{record.image_id}.npy"), record.boxes_at(36, 36))
        found = evaluate_scoremaps(maps, tmp_path, with_val, settings=replace(SMALL, workers=4))
        expected = metric.compute()
        assert found[f"max_box_acc_{name}"] == {
            **{str(iou): value for iou, value in expected.accuracy.items()}, "mean": expected.mean,
        }  # fmt: skip
