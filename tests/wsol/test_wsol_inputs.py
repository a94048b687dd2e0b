"""What a person types or hands over wrongly: one clear line, before the work begins, and no figure not meant."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.console import UserError, run_tool
from wsol import MaxBoxAcc
from wsol.evaluate import evaluate_checkpoint, evaluate_scoremaps
from wsol.maps.classifiers import load_classifier
from wsol.maps.scoremaps import NOTE, ScoreMapWriter, read_note, read_score_map
from wsol.maps.sources import ranks_of
from wsol.metadata import read_metadata, read_split
from wsol.report import print_result, write_result
from wsol.settings import Settings, choose_device

TOOL = Path(__file__).parents[2] / "tools" / "eval_wsol.py"
SMALL = Settings(input_size=64, interval=0.01, batch_size=4, sheet=0)


@pytest.fixture
def maps(metadata: Path, tmp_path: Path) -> Path:
    """A score map of 8 x 8 for each image of the test split."""
    rng = np.random.default_rng(5)
    for record in read_metadata(metadata):
        path = tmp_path / "maps" / f"{record.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.random((8, 8)))
    return tmp_path / "maps"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval": 1e-12}, "the interval is 1e-12; it must be from 0.0001 to 1"),
        ({"interval": float("nan")}, "the interval is nan"),
        ({"input_size": 100_000}, "input_size is 100000; it must be at most 4096"),
    ],
)
def test_what_would_fill_the_memory_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**settings)


def test_an_iou_threshold_is_no_share() -> None:
    with pytest.raises(ValueError, match=r"in percent, such as 50, from 0 to 100: \(0\.5,\)"):
        MaxBoxAcc(iou_thresholds=(0.5,))  # it would count nearly every image as right


def test_a_device_without_values_is_none() -> None:
    with pytest.raises(UserError, match="no device 'meta'"):
        choose_device("meta")


@pytest.mark.parametrize("below", ["", "x"])
def test_an_out_that_is_a_file_is_refused_before_the_work(
    checkpoint: Path, tree, maps: Path, metadata: Path, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / below
    for evaluate in (
        lambda: evaluate_checkpoint(tmp_path / "not looked for", tree.root, out),
        lambda: evaluate_scoremaps(tmp_path / "not looked for", out, metadata),
        lambda: ScoreMapWriter(out, 1, (8, 8), {}),
    ):
        with pytest.raises(UserError, match="no file can be written there .*; name another folder"):
            evaluate()
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_no_checkpoint_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("owl")
    for name, message in (
        ("absent.pth", "absent.pth: no such file; name an exported backbone"),
        ("", ": a folder, not a file; name an exported backbone"),
        ("names.txt", "names.txt: no exported backbone"),
    ):
        with pytest.raises(UserError, match=message):
            load_classifier(tmp_path / name)
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "owl.pth")
    with pytest.raises(UserError, match="unknown backbone ''; known: ") as caught:
        load_classifier(tmp_path / "owl.pth", "")
    assert len(str(caught.value)) < 2000  # timm has more than a thousand names


@pytest.mark.parametrize("note", ["[]", '{"complete": true}', '{"complete": true, "made_by": "me"}'])
def test_a_note_of_another_kind_is_refused(tmp_path: Path, note: str) -> None:
    (tmp_path / NOTE).write_text(note)
    with pytest.raises(UserError, match=r"scoremaps\.json: not the note of score maps"):
        read_note(tmp_path)


def test_an_archive_of_arrays_is_no_score_map(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 2)))
    (tmp_path / "x.npz").rename(tmp_path / "owl.jpg.npy")
    with pytest.raises(UserError, match=r"owl\.jpg\.npy: an archive of several arrays"):
        read_score_map(tmp_path, "owl.jpg")


def test_one_missing_map_of_val_is_not_a_set_without_val(metadata: Path, maps: Path, tmp_path: Path) -> None:
    test = metadata.rename(metadata.parent / "all")
    for split, lines in (("val", slice(0, 2)), ("test", slice(2, None))):
        (test.parent / split).mkdir()
        for file in test.iterdir():
            (test.parent / split / file.name).write_text("\n".join(file.read_text().splitlines()[lines]))
    first, second = [record.image_id for record in read_metadata(test.parent / "val")]
    (maps / f"{first}.npy").unlink()
    with pytest.raises(UserError, match=f"{first}.npy: no such score map"):
        evaluate_scoremaps(maps, tmp_path / "out", test.parent, settings=SMALL)
    (maps / f"{second}.npy").unlink()
    result = evaluate_scoremaps(maps, tmp_path / "out", test.parent, settings=SMALL)
    assert result["why_no_val"] == "there are no score maps of val"


def test_corners_beyond_16_bits_are_written_as_they_are(metadata: Path, maps: Path, tmp_path: Path) -> None:
    for record in read_metadata(metadata):
        np.save(maps / f"{record.image_id}.npy", np.ones((1, 70_000)))
    evaluate_scoremaps(maps, tmp_path / "out", metadata, settings=SMALL)
    with (tmp_path / "out" / "images.csv").open() as file:
        assert {row["x1"] for row in csv.DictReader(file)} == {"69999"}


def test_among_nan_no_class_is_found() -> None:
    nan = float("nan")
    logits = torch.tensor([[nan, nan, nan], [1.0, nan, 0.0], [nan, 3.0, 2.0], [1.0, 3.0, 3.0]])
    assert ranks_of(logits, torch.tensor([0, 0, 1, 2])) == [3, 1, 1, 1]


def test_a_label_that_is_an_identifier_is_refused(metadata: Path) -> None:
    path = metadata / "class_labels.txt"
    path.write_text(path.read_text().replace(",2", ",99999999999"))
    with pytest.raises(UserError, match=r"class_labels\.txt, line 5: the label of '.*' is 99999999999; number the"):
        read_metadata(metadata)


def test_the_folder_of_a_split_is_not_read_as_another(metadata: Path) -> None:
    assert read_split(None, metadata, "test")[1] == "metadata"
    with pytest.raises(UserError, match="test: the files of the split 'test', not of 'val'"):
        read_split(None, metadata, "val")


def test_maps_from_disk_are_not_said_to_be_resized(
    checkpoint: Path, tree, metadata: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, maps = tmp_path / "out", tmp_path / "own"
    print_result(evaluate_checkpoint(checkpoint, tree.root, out, metadata, maps, SMALL))
    assert "class activation maps of the true class, 4 x 4 at 64 px, resized to 64 x 64;" in capsys.readouterr().out
    print_result(evaluate_scoremaps(maps, out, metadata, settings=SMALL))
    assert (
        "Maps: score maps from disk, 64 x 64; by their note made by teacher (automix, teacher, resnet18), cam of the "
        "true class, 64 px, output stride 16."
    ) in capsys.readouterr().out


def test_an_earlier_result_does_not_stand_beside_new_images(
    metadata: Path, maps: Path, tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result(tmp_path / "out", evaluate_scoremaps(maps, tmp_path / "out", metadata, settings=SMALL))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsol.evaluate.draw_pictures", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate_scoremaps(maps, tmp_path / "out", metadata, settings=SMALL)
    assert not (tmp_path / "out" / "wsol.json").exists()


def test_a_set_with_masks_is_described_as_one(
    metadata: Path, maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    ids = (metadata / "image_ids.txt").read_text().splitlines()
    (metadata / "localization.txt").write_text("\n".join(f"{image_id},mask.png," for image_id in ids))
    result = evaluate_scoremaps(maps, tmp_path / "out", metadata, settings=SMALL, masks=tmp_path)
    assert result["what"].startswith("Weakly supervised localisation by class activation maps: PxAP in percent")
    assert (result["protocol"]["contours"], result["protocol"]["threshold_choice"]) == (None, None)
    print_result({**result, "blank_maps": 1})
    text = capsys.readouterr().out
    assert "- Masks: test split, from metadata; interval" in text
    assert "constant, or with NaN): 1.\n" in text
    drawn = Settings(interval=0.01, draw=2)
    with pytest.raises(UserError, match="leave out --draw"):
        evaluate_scoremaps(maps, tmp_path / "out", metadata, tmp_path, drawn, tmp_path)


def test_options_of_a_network_are_refused_beside_score_maps(maps: Path, metadata: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(TOOL), "--scoremaps", str(maps), "--metadata", str(metadata), "--out", str(tmp_path)]
    done = subprocess.run([*command, "--random-weights", "--input-size", "96"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --input-size, --random-weights: about a network, and score maps from disk")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["missing", "of another shape"])
def test_of_several_processes_the_first_says_what_another_met(
    metadata: Path, maps: Path, tmp_path: Path, wrong: str
) -> None:
    second = maps / f"{(metadata / 'image_ids.txt').read_text().splitlines()[1]}.npy"
    message = f"error: {second}: no such score map"
    if wrong == "missing":
        second.unlink()
    else:
        for number, image_id in enumerate((metadata / "image_ids.txt").read_text().splitlines()):
            if number % 2:  # all those of the second process
                np.save(maps / f"{image_id}.npy", np.ones((9, 8)))
        message = f"error: {second}: its shape is (9, 8)"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(TOOL)]
    options = ["--scoremaps", str(maps), "--metadata", str(metadata), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode
    assert done.stderr.count(message) == 1
    assert "gloo" not in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_the_files_name_a_class_alike(metadata: Path, maps: Path, tmp_path: Path) -> None:
    result = evaluate_scoremaps(maps, tmp_path, metadata, settings=SMALL)
    write_result(tmp_path, result)
    names = {}
    for name in ("images.csv", "per_class.csv"):
        with (tmp_path / name).open() as file:
            names[name] = {row["class"] for row in csv.DictReader(file)}
    assert names["images.csv"] == names["per_class.csv"]
    assert "Black_footed_Albatross" in names["images.csv"]
    assert json.loads((tmp_path / "wsol.json").read_text())["per_class"][0]["name"] == "Black_footed_Albatross"


def test_an_interrupted_evaluation_does_not_promise_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        run_tool(main, again="starts over")
    assert (left.value.code, capsys.readouterr().err) == (130, "interrupted; the same command starts over\n")
    assert 'run_tool(main, again="starts over")' in TOOL.read_text()
