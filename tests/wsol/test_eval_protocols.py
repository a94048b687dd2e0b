"""Evaluations of other kinds: thresholds of val, other types of maps, masks, several processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pretrain.console import UserError
from wsol import MaxBoxAcc, kernels
from wsol.counting.ranks import Ranks
from wsol.counting.tally import BoxTally
from wsol.evaluate import evaluate_checkpoint, evaluate_scoremaps
from wsol.metadata import boxes_digest, read_metadata
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
    assert (alone["chosen_on_val"], found["why_no_val"]) == (None, None)
    assert alone["why_no_val"] == "val itself is evaluated"
    for each, split in ((found, "test"), (alone, "val")):
        protocol = each["protocol"]
        assert (protocol["split"], protocol["interval"], protocol["score_map_size"]) == (split, 0.01, [36, 36])
        assert protocol["boxes_sha256"] == boxes_digest(read_metadata(with_val / split), 36)
        assert protocol["made_by"] is None  # these maps came without a note
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


def test_val_may_have_classes_that_the_split_has_not(
    tree, with_val: Path, maps: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for path in (with_val / "test").iterdir():
        path.write_text("\n".join(path.read_text().splitlines()[:4]))  # two of each of the first two classes
    by_maps = evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)
    by_network = evaluate_checkpoint(checkpoint, tree.root, tmp_path, with_val, tmp_path / "all", settings=SMALL)
    for found in (by_maps, by_network):
        assert (found["images"], found["chosen_on_val"]["images"]) == (4, 6)
        assert [row["label"] for row in found["per_class"]] == [0, 1]
    note = json.loads((tmp_path / "all" / "scoremaps.json").read_text())
    assert (note["images"], note["complete"]) == (10, True)


def test_without_numba_it_is_said_and_the_figures_are_the_same(
    with_val: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)
    assert "numba" not in capsys.readouterr().err
    monkeypatch.setattr(kernels, "AVAILABLE", False)
    found = evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)
    assert "warning: numba is not installed" in capsys.readouterr().err
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}


def test_a_threshold_may_not_be_chosen_on_the_images_it_is_applied_to(
    with_val: Path, maps: Path, tmp_path: Path
) -> None:
    shutil.copytree(with_val / "test", with_val / "val", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"6 of its images are of the split 'test' too \(001\.Black"):
        evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_maps_of_other_types_give_the_same_figures_and_are_told(
    with_val: Path, maps: Path, tmp_path: Path, eval_wsol, dtype: str
) -> None:
    before = evaluate_scoremaps(maps, tmp_path, with_val, settings=SMALL)
    assert before["protocol"]["score_map_dtypes"] == ["float64"]
    for path in maps.rglob("*.npy"):
        score_map = np.load(path)
        np.save(path, (score_map * 255).round().astype(np.uint8) if dtype == "uint8" else score_map.astype(dtype))
    out = tmp_path / "out"
    status, said, _ = eval_wsol("--scoremaps", maps, "--metadata", with_val, "--interval", 0.01, "--out", out)
    assert status == 0
    after = json.loads((out / "wsol.json").read_text())
    assert after["protocol"]["score_map_dtypes"] == [dtype]
    assert f"on disk they are {dtype}" in said
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


def test_classes_without_names_are_numbered(checkpoint: Path, tmp_path: Path) -> None:
    """Images that lie in no folder, and a network that numbers its classes."""
    folder, maps = tmp_path / "metadata", tmp_path / "maps"
    folder.mkdir()
    maps.mkdir()
    for name, of in (
        ("image_ids", ""),
        ("class_labels", ",{}"),
        ("image_sizes", ",50,40"),
        ("localization", ",1,2,30,20"),
    ):
        (folder / f"{name}.txt").write_text("\n".join(f"{label}.jpg{of.format(label)}" for label in (0, 2)))
    for label in (0, 2):
        np.save(maps / f"{label}.jpg.npy", np.eye(36))
        Image.new("RGB", (50, 40), (80 * label, 9, 9)).save(tmp_path / f"{label}.jpg")
    by_maps = evaluate_scoremaps(maps, tmp_path, folder, settings=SMALL)
    by_network = evaluate_checkpoint(checkpoint, tmp_path, tmp_path, folder, settings=SMALL)
    for found in (by_maps, by_network):
        assert [(row["label"], row["name"]) for row in found["per_class"]] == [(0, "0"), (2, "2")]
    assert "BY INDEX" in by_network["classes"]


def test_rows_and_pictures_are_at_the_threshold_that_is_best_for_50(
    tree, metadata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, ...]] = []

    def draw_pictures(*arguments: Any) -> dict[str, Any]:
        drawn.append(arguments)
        return {"overlays": [], "pictures": {}}

    monkeypatch.setattr("wsol.evaluate.draw_pictures", draw_pictures)
    for record in read_metadata(metadata):
        # Low scores everywhere, and high ones in the box: 0 is not the best threshold.
        [[x0, y0, x1, y1]] = record.boxes_at(64, 64)
        score_map = np.full((64, 64), 0.2)
        score_map[y0:y1, x0:x1] = 0.9
        (tmp_path / record.image_id).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"{record.image_id}.npy", score_map)
    settings = replace(SMALL, draw=1, sheet=2)
    found = evaluate_scoremaps(tmp_path, tmp_path / "out", metadata, tree.root, settings)
    threshold = 0.23  # 0.2 of 0.9 is 0.222, in steps of 0.01
    assert found["best_threshold"] == dict.fromkeys(("30", "50", "70"), threshold)
    lines = (tmp_path / "out" / "images.csv").read_text().splitlines()[1:]
    assert [line.split(",")[6] for line in lines] == ["1.0000"] * 6
    [(_, records, rows, drawn_at, data, out, spread, extremes)] = drawn
    assert (drawn_at, data, out, spread, extremes) == (threshold, tree.root, tmp_path / "out", 1, 2)
    assert [row["image_id"] for row in rows] == [record.image_id for record in records]


def test_maps_are_measured_by_several_threads_at_once(
    metadata: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, measure = Barrier(3), BoxTally.measure

    def wait_and_measure(*arguments: Any) -> Any:
        together.wait(20)
        return measure(*arguments)

    monkeypatch.setattr(BoxTally, "measure", wait_and_measure)
    assert evaluate_scoremaps(maps, tmp_path, metadata, settings=replace(SMALL, workers=3))["images"] == 6


def test_a_process_without_images_has_the_figures_and_writes_nothing(
    metadata: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_scoremaps(maps, tmp_path, metadata, settings=SMALL)
    counts: list[Any] = []
    monkeypatch.setattr(Ranks, "add_up", lambda ranks, mine: counts.append([array.copy() for array in mine]))
    evaluate_scoremaps(maps, tmp_path, metadata, settings=SMALL)

    def add_up(ranks: Ranks, mine: list[Any]) -> None:
        for array, other in zip(mine, counts[0]):
            array += other

    monkeypatch.setattr(Ranks, "add_up", add_up)
    monkeypatch.setattr(Ranks, "gather", lambda ranks, rows: [])
    monkeypatch.setattr(Ranks, "together", lambda ranks: nullcontext())
    found = evaluate_scoremaps(maps, tmp_path / "idle", metadata, settings=SMALL, ranks=Ranks(6, 7, 6))
    assert found["curve"] == whole["curve"]
    assert not (tmp_path / "idle").exists()


@pytest.mark.slow
def test_several_processes_give_the_figures_of_one(
    tree, with_val: Path, checkpoint: Path, tmp_path: Path, eval_wsol
) -> None:
    """Of five images and of one (val): shares of three and two, and of one and none."""
    for split, count in (("test", 5), ("val", 1)):
        for path in (with_val / split).iterdir():
            path.write_text("\n".join(path.read_text().splitlines()[:count]))
    options = ["--checkpoint", checkpoint, "--data", tree.root, "--metadata", with_val, "--input-size", 64]
    options += ["--interval", 0.01, "--draw", 2, "--sheet", 2, "--device", "cpu", "--batch-size", 1]
    one, two = tmp_path / "one", tmp_path / "two"
    alone = eval_wsol(*options, "--out", one, "--scoremaps", one)
    assert alone[0] == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(TOOL)]
    done = subprocess.run(
        [*torchrun, *map(str, options), "--out", str(two), "--scoremaps", str(two)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[:-1] == alone[1].splitlines()[:-1]  # all but the path: the first process prints
    assert "maps and boxes of test: 3/3" in done.stderr
    assert "maps and boxes of test: 2/2" not in done.stderr
    results = [json.loads((out / "wsol.json").read_text()) for out in (one, two)]
    for result in results:
        result.pop("seconds")
    assert results[0] == results[1]
    assert results[0]["images"] == 5
    assert (one / "images.csv").read_text() == (two / "images.csv").read_text()
    again = evaluate_scoremaps(two, tmp_path, with_val, settings=SMALL)  # the maps of both processes
    assert again["curve"] == results[0]["curve"]


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
