"""The command as a person types it, on a small tree in CUB's layout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.backbones import load_backbone
from pretrain.console import UserError
from wsol import MaxBoxAcc, class_activation_map
from wsol.counting.ranks import Ranks
from wsol.counting.tally import BoxTally
from wsol.evaluate import evaluate_checkpoint, evaluate_scoremaps
from wsol.maps.cam import with_output_stride
from wsol.maps.images import prepare
from wsol.maps.scoremaps import read_score_map
from wsol.maps.sources import ranks_of
from wsol.metadata import boxes_digest, read_cub
from wsol.settings import Settings, choose_device

TOOL = Path(__file__).parents[2] / "tools" / "eval_wsol.py"
SMALL = Settings(input_size=64, interval=0.01, batch_size=4)


def test_the_command_writes_the_figures_that_it_prints(tree, checkpoint: Path, tmp_path: Path) -> None:
    out, maps = tmp_path / "out", tmp_path / "maps"
    arguments = ["--input-size", 64, "--interval", 0.01, "--out", out, "--device", "cpu", "--draw", 2]
    arguments += ["--checkpoint", checkpoint, "--data", tree.root, "--scoremaps", maps]
    done = subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True, check=False
    )
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
    assert (result["checkpoint"]["checkpoint"], result["checkpoint"]["method"]) == ("teacher", "automix")
    for folder in (tmp_path, checkpoint.parent):
        assert str(folder) not in (out / "wsol.json").read_text()
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
    metric, right, predicted = MaxBoxAcc(0.01), 0, []
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
            best = int(model(image).argmax())
        right += best == int(label)
        predicted.append(card.classes[best])
    expected = metric.compute()
    assert result["max_box_acc_v2"] == {**{str(k): v for k, v in expected.accuracy.items()}, "mean": expected.mean}
    assert result["top1_cls"] == pytest.approx(100 * right / 6)
    lines = (tmp_path / "images.csv").read_text().splitlines()[1:]
    assert [line.split(",")[3] for line in lines] == predicted
    protocol = result["protocol"]
    assert (protocol["map_size"], protocol["output_stride"]) == ([map_size, map_size], stride)
    assert (protocol["interval"], protocol["input_size"], protocol["score_map_size"]) == (0.01, 64, [64, 64])
    assert protocol["boxes_sha256"] == boxes_digest(read_cub(tree.root, "test"), 64)
    assert result["paper"]["backbone"] == "R-18"
    assert not result["paper"]["comparable"]  # the interval is 0.01


def test_a_network_of_a_library_is_called_by_its_whole_name(
    tree, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsol.evaluate.load_classifier", lambda source, arch: load_backbone(checkpoint))
    found = evaluate_checkpoint("timm:resnet18.a1_in1k", tree.root, tmp_path, settings=SMALL)
    assert found["checkpoint"]["checkpoint"] == "timm:resnet18.a1_in1k"


def test_images_are_resized_and_normalised_as_the_card_says(checkpoint: Path) -> None:
    _, card = load_backbone(checkpoint)
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, :, 0] = 255
    found = prepare(Image.fromarray(pixels), 4, card)
    assert found.shape == (3, 4, 4)
    expected = [(value - mean) / std for value, mean, std in zip((1, 0, 0), card.mean, card.std)]
    torch.testing.assert_close(found[:, 0, 0], torch.tensor(expected))


def test_of_equal_logits_the_first_class_stands_before() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    assert ranks_of(logits, torch.tensor([3, 2])) == [1, 2]
    assert ranks_of(logits, torch.tensor([1, 0])) == [0, 0]
    assert ranks_of(logits, torch.tensor([0, 3])) == [3, 3]


def test_a_truncated_image_names_its_file_and_ends_with_status_2(
    tree, checkpoint: Path, tmp_path: Path, eval_wsol
) -> None:
    broken = tree.root / "images" / tree.ids[3]
    broken.write_bytes(broken.read_bytes()[:-200])
    arguments = ["--checkpoint", checkpoint, "--data", tree.root, "--input-size", 64]
    status, _, said = eval_wsol(*arguments, "--out", tmp_path, "--scoremaps", tmp_path / "maps")
    assert status == 2
    error = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert str(broken) in error[0]
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
    assert control["checkpoint"]["branch"] == "control"
    assert control["checkpoint"]["sha256"] == ""
    assert control["curve"] != trained["curve"]
    assert control["centre_baseline"] == trained["centre_baseline"]
    again = evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=replace(SMALL, random_weights=True))
    assert again["curve"] == control["curve"]  # always the same random weights


def test_what_the_metric_refuses_is_told_with_the_image(
    tree, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not for me")

    monkeypatch.setattr(BoxTally, "measure", refuse)
    with pytest.raises(UserError, match=f"^{re.escape(tree.ids[1])}: not for me$"):
        evaluate_checkpoint(checkpoint, tree.root, tmp_path, settings=SMALL)


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
        (b"", "not a NumPy array"),
        (None, "no such score map"),
    ],
)
def test_a_wrong_score_map_is_named(
    metadata: Path, tmp_path: Path, content: np.ndarray | bytes | None, words: str
) -> None:
    ids = (metadata / "image_ids.txt").read_text().splitlines()
    for image_id in ids:
        path = tmp_path / "maps" / f"{image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.eye(64))
    wrong = tmp_path / "maps" / f"{ids[3]}.npy"
    wrong.unlink()
    if isinstance(content, bytes):
        wrong.write_bytes(content)
    elif content is not None:
        np.save(wrong, content)
    with pytest.raises(UserError, match=words) as caught:
        evaluate_scoremaps(tmp_path / "maps", tmp_path, metadata, settings=SMALL)
    assert str(wrong) in str(caught.value)


def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    wrong = {"interval": 0.0, "input_size": 0, "batch_size": 0, "workers": 0, "draw": -1, "sheet": -1}
    wrong |= {"cam": "camm", "label": "wrong", "output_stride": "32", "threshold_from": "test", "split": "tset"}
    for settings in ({name: value} for name, value in wrong.items()):
        with pytest.raises(UserError, match=next(iter(settings))) as caught:
            Settings(**settings)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"the interval is 1\.5"):
        Settings(interval=1.5)
    with pytest.raises(UserError, match="no device 'gpu9'"):
        choose_device("gpu9")
    with pytest.raises(UserError, match="thresholds chosen on val are for another split"):
        Settings(split="val", threshold_from="val")
    with pytest.raises(UserError, match="give --data beside --draw"):
        evaluate_scoremaps(tmp_path, tmp_path, tmp_path, settings=Settings(draw=1))
    with pytest.raises(UserError, match="no such folder of score maps"):
        evaluate_scoremaps(tmp_path / "none", tmp_path, tmp_path)


def test_the_command_hands_on_what_it_is_given(eval_wsol, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its defaults are those of the package."""
    seen: list[tuple[object, ...]] = []

    def evaluate(*arguments: object, ranks: Ranks, **named: object) -> None:
        seen.append((*arguments, named))
        raise UserError("enough")

    monkeypatch.setattr("wsol.evaluate.evaluate_scoremaps", evaluate)
    monkeypatch.setattr("wsol.evaluate.evaluate_checkpoint", evaluate)
    nothing = {"data": None, "metadata": None, "masks": None, "settings": Settings()}
    assert eval_wsol("--scoremaps", "s") == (2, "", "error: enough\n")
    assert seen.pop() == ("s", "work_dirs/wsol", nothing)
    others = {
        "split": "val", "threshold_from": "none", "interval": 0.5, "input_size": 32, "output_stride": "8",
        "cam": "gradcam", "label": "predicted", "device": "cpu", "batch_size": 3, "workers": 5, "draw": 6, "sheet": 7,
    }  # fmt: skip
    places = ["--data", "d", "--metadata", "m", "--masks", "k", "--out", "o", "--scoremaps", "s"]
    given = {"metadata": "m", "masks": "k"}
    of_maps = {name: others[name] for name in ("split", "threshold_from", "interval", "workers", "draw", "sheet")}
    eval_wsol(*places, *_options(of_maps))
    assert seen.pop() == ("s", "o", {**given, "settings": Settings(**of_maps), "data": "d"})
    eval_wsol(*places, *_options(others), "--random-weights", "--checkpoint", "c", "--arch", "a")
    settings = Settings(**others, random_weights=True)
    assert seen.pop() == ("c", "d", "o", {**given, "settings": settings, "scoremaps": "s", "arch": "a"})


def _options(values: dict[str, object]) -> list[object]:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)]


def test_a_command_without_maps_and_without_images_is_one_line(eval_wsol) -> None:
    for arguments in ((), ("--checkpoint", "c.safetensors"), ("--data", "d"), ("--metadata", "m")):
        status, said, error = eval_wsol(*arguments)
        assert (status, said) == (2, "")
        assert error.startswith("error: give --checkpoint C --data ROOT, or --scoremaps DIR")


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="no device 'cuda:99'"):
        choose_device("auto", Ranks(rank=101, world=200, local=99))

    def without_cuda(*_: object, **__: object) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled\nand more")

    monkeypatch.setattr(torch, "zeros", without_cuda)
    with pytest.raises(UserError, match=r"no device 'cuda:0' \(Torch not compiled with CUDA enabled\); use"):
        choose_device("auto")
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", Ranks(1, 2, 1)) == torch.device("cpu")
