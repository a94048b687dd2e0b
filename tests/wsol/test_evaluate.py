"""The command as a person types it, on a small tree in CUB's layout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.backbones import load_backbone
from pretrain.console import UserError
from wsol import MaxBoxAcc, class_activation_map
from wsol.ahead import ahead, batches_ahead
from wsol.evaluate import evaluate_checkpoint, evaluate_scoremaps
from wsol.maps.cam import with_output_stride
from wsol.maps.images import prepare
from wsol.maps.scoremaps import read_score_map
from wsol.maps.sources import ranks_of
from wsol.metadata import read_cub
from wsol.settings import Settings, choose_device

TOOL = Path(__file__).parents[2] / "tools" / "eval_wsol.py"
SMALL = Settings(input_size=64, interval=0.01, batch_size=4)


def run_tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_command_writes_the_figures_that_it_prints(tree, checkpoint: Path, tmp_path: Path) -> None:
    out, maps = tmp_path / "out", tmp_path / "maps"
    arguments = ("--input-size", 64, "--interval", 0.01, "--out", out, "--device", "cpu")
    done = run_tool("--checkpoint", checkpoint, "--data", tree.root, "--scoremaps", maps, "--draw", 2, *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "wsol.json").read_text())
    score = result["max_box_acc_v2"]
    assert result["images"] == 6
    assert score["mean"] == pytest.approx((score["30"] + score["50"] + score["70"]) / 3)
    for values in (score, result["centre_baseline"], result["top1_loc"]):
        for column in ("30", "50", "70", "mean"):
            assert f"{values[column]:.2f}" in done.stdout
    assert "oracle" in done.stdout
    assert "by name: 3 of the checkpoint's 5 classes" in done.stdout
    assert result["protocol"]["data"] == "CUB_200_2011"
    assert result["protocol"]["map_size"] == [4, 4]
    assert result["checkpoint"]["method"] == "automix"
    assert str(tmp_path) not in (out / "wsol.json").read_text()
    assert all((out / name).is_file() for name in result["overlays"])
    assert len(result["overlays"]) == 2

    again = evaluate_scoremaps(maps, out, data=tree.root, settings=SMALL)
    assert again["max_box_acc_v2"] == score
    assert again["centre_baseline"] == result["centre_baseline"]
    assert again["top1_cls"] is None
    assert again["protocol"]["made_by"]["branch"] == "teacher"


@pytest.mark.parametrize(("stride", "map_size"), [("stock", 2), ("16", 4), ("8", 8)])
def test_the_evaluation_is_its_parts_put_together(
    tree, checkpoint: Path, tmp_path: Path, stride: str, map_size: int
) -> None:
    maps = tmp_path / "maps"
    settings = Settings(input_size=64, interval=0.01, batch_size=4, output_stride=stride)
    result = evaluate_checkpoint(checkpoint, tree.root, tmp_path, scoremaps=maps, settings=settings)
    model, card = load_backbone(checkpoint)
    model = with_output_stride(model, stride)
    metric, right = MaxBoxAcc(0.01), 0
    for record in read_cub(tree.root, "test"):
        # The checkpoint lists the tree's classes as 2, 4 and 1.
        label = torch.tensor([(2, 4, 1)[record.label]])
        image = prepare(Image.open(tree.root / "images" / record.image_id), 64, card)[None]
        score_map = class_activation_map(model, image, label)[0]
        written, dtype = read_score_map(maps, record.image_id)
        assert dtype == "float64"
        np.testing.assert_allclose(written, score_map, atol=1e-4)
        metric.update(written, record.boxes_at(64, 64))
        with torch.no_grad():
            right += int(model(image).argmax() == label)
    expected = metric.compute()
    assert result["max_box_acc_v2"] == {**{str(k): v for k, v in expected.accuracy.items()}, "mean": expected.mean}
    assert result["top1_cls"] == pytest.approx(100 * right / 6)
    assert result["protocol"]["map_size"] == [map_size, map_size]


def test_images_are_resized_and_normalised_as_the_card_says(checkpoint: Path) -> None:
    _, card = load_backbone(checkpoint)
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, :, 0] = 255
    found = prepare(Image.fromarray(pixels), 4, card)
    assert found.shape == (3, 4, 4)
    expected = [(value - mean) / std for value, mean, std in zip((1, 0, 0), card.mean, card.std)]
    torch.testing.assert_close(found[:, 0, 0], torch.tensor(expected))


def test_reading_ahead_keeps_the_order_and_raises_what_loading_raises() -> None:
    batches = list(batches_ahead(range(7), lambda item: item * 10, batch_size=3, threads=4))
    assert batches == [[(0, 0), (1, 10), (2, 20)], [(3, 30), (4, 40), (5, 50)], [(6, 60)]]
    with pytest.raises(ZeroDivisionError):
        list(batches_ahead(range(3), lambda item: 1 // (1 - item), batch_size=2, threads=2))


def test_no_more_is_begun_than_is_allowed_to_be_pending() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            begun.append(item)
            yield item

    for item, made in ahead(items(), lambda item: -item, threads=2, pending=3):
        assert made == -item
        assert len(begun) <= item + 1 + 3


def test_of_equal_logits_the_first_class_stands_before() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    assert ranks_of(logits, torch.tensor([3, 2])) == [1, 2]
    assert ranks_of(logits, torch.tensor([1, 0])) == [0, 0]
    assert ranks_of(logits, torch.tensor([0, 3])) == [3, 3]


def test_a_truncated_image_names_its_file_and_ends_with_status_2(tree, checkpoint: Path, tmp_path: Path) -> None:
    broken = tree.root / "images" / tree.ids[3]
    broken.write_bytes(broken.read_bytes()[:-200])
    done = run_tool(
        "--checkpoint", checkpoint, "--data", tree.root, "--input-size", 64, "--out", tmp_path, "--scoremaps",
        tmp_path / "maps",
    )  # fmt: skip
    assert done.returncode == 2
    error = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert str(broken) in error[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "wsol.json").exists()
    with pytest.raises(UserError, match="did not end"):
        evaluate_scoremaps(tmp_path / "maps", tmp_path, data=tree.root, settings=SMALL)


def test_grey_images_are_read(tree, checkpoint: Path, tmp_path: Path) -> None:
    path = tree.root / "images" / tree.ids[1]
    Image.open(path).convert("L").save(path)
    assert evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=SMALL)["images"] == 6


def test_images_that_belie_their_metadata_are_counted(tree, metadata: Path, checkpoint: Path, tmp_path: Path) -> None:
    path = metadata / "image_sizes.txt"
    lines = path.read_text().splitlines()
    lines[2] = lines[2].rsplit(",", 2)[0] + ",1000,1000"
    path.write_text("\n".join(lines))
    result = evaluate_checkpoint(checkpoint, tree.root, tmp_path, metadata, settings=SMALL)
    assert result["size_mismatches"] == 1


def test_the_control_is_the_same_network_untrained(tree, checkpoint: Path, tmp_path: Path) -> None:
    trained = evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=SMALL)
    control = evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=replace(SMALL, random_weights=True))
    assert control["checkpoint"]["method"] == "random weights"
    assert control["checkpoint"]["sha256"] == ""
    assert control["curve"] != trained["curve"]
    assert control["centre_baseline"] == trained["centre_baseline"]


def test_labels_beyond_the_classes_are_refused(tree, metadata: Path, checkpoint: Path, tmp_path: Path) -> None:
    path = metadata / "class_labels.txt"
    path.write_text(path.read_text()[:-1] + "3")
    with pytest.raises(UserError, match=r"is of class 3 .* lists 3"):
        evaluate_checkpoint(checkpoint, tree.root, tmp_path, metadata, settings=SMALL)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((64, 64), dtype=np.float16), "float64, not float16"),
        (np.zeros((64, 64), dtype=np.int64), "float64, not int64"),
        (np.full((64, 64), 1.5), r"in \[0, 1\]"),
        (np.full((64, 64), np.nan), "NaN"),
        (np.zeros((1, 64, 64)), "shape"),
        (np.zeros((32, 64)), "before it"),
        (np.array([{"a": 1}]), "not a NumPy array"),
        (None, "no such score map"),
    ],
)
def test_a_wrong_score_map_is_named(metadata: Path, tmp_path: Path, content: np.ndarray | None, words: str) -> None:
    ids = (metadata / "image_ids.txt").read_text().splitlines()
    for image_id in ids:
        path = tmp_path / "maps" / f"{image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, centre := np.eye(64))
    assert evaluate_scoremaps(tmp_path / "maps", tmp_path, metadata, settings=SMALL)["images"] == len(ids)
    wrong = tmp_path / "maps" / f"{ids[3]}.npy"
    wrong.unlink()
    if content is not None:
        np.save(wrong, content)
    with pytest.raises(UserError, match=words) as caught:
        evaluate_scoremaps(tmp_path / "maps", tmp_path, metadata, settings=SMALL)
    assert str(wrong) in str(caught.value)
    assert centre.any()


def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    wrong = {"interval": 0.0, "input_size": 0, "batch_size": 0, "workers": 0, "draw": -1, "split": "tset"}
    wrong |= {"cam": "camm", "label": "wrong", "output_stride": "32", "threshold_from": "test"}
    for settings in ({name: value} for name, value in wrong.items()):
        with pytest.raises(UserError, match=next(iter(settings))) as caught:
            Settings(**settings)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no device 'gpu9'"):
        choose_device("gpu9")
    with pytest.raises(UserError, match="give --data beside --draw"):
        evaluate_scoremaps(tmp_path, tmp_path, tmp_path, settings=Settings(draw=1))
    with pytest.raises(UserError, match="no such folder of score maps"):
        evaluate_scoremaps(tmp_path / "none", tmp_path, tmp_path)
