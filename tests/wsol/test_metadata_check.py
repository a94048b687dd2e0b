"""The validator: all that is wrong with a set, each with its place, and what there is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.console import UserError
from wsol.metadata import boxes_digest, read_metadata
from wsol.metadata.checking import check_set

SCRIPT = Path(__file__).parents[2] / "tools/check_wsol_data.py"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        spec = importlib.util.spec_from_file_location("check_wsol_data", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        status = module.main()
        return status, capsys.readouterr().out

    return run


@pytest.fixture
def maps(metadata: Path, tmp_path: Path) -> Path:
    for record in read_metadata(metadata):
        path = tmp_path / "maps" / f"{record.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.zeros((2, 2)))
    return tmp_path / "maps"


def test_a_set_in_order(tool, tree, metadata: Path, maps: Path) -> None:
    (maps / "scoremaps.json").write_text("{}")  # the note beside the maps is none of them
    status, out = tool(metadata, "--data", tree.root, "--scoremaps", maps)
    digest = boxes_digest(read_metadata(metadata), 224)
    assert (status, out) == (
        0,
        f"{metadata}: in order\n"
        "  6 images\n"
        "  3 classes, 2 to 2 images in each\n"
        "  6 boxes, 1 to 1 an image\n"
        f"  sha256 of the boxes at 224: {digest}\n",
    )


def test_every_mistake_is_told_with_its_place(tool, metadata: Path) -> None:
    ids = (metadata / "image_ids.txt").read_text().splitlines()
    files = {
        "image_ids.txt": [*ids, ids[0]],
        "class_labels.txt": [f"{ids[0]},0", f"{ids[1]},x", f"{ids[2]}", *(f"{each},1" for each in ids[3:]), "odd,1"],
        "image_sizes.txt": [f"{each},90,90" for each in ids[:5]],
        "localization.txt": [
            *(f"{each},1,2,3,4" for each in ids[:3]),
            f"{ids[3]},5,6,4,7",
            f"{ids[4]},1,1,92,5",
            f"{ids[5]},1,-2,3,4",
        ],
    }
    for name, lines in files.items():
        (metadata / name).write_text("\n".join(lines))
    status, out = tool(metadata)
    labels, sizes, boxes = (metadata / name for name in ("class_labels.txt", "image_sizes.txt", "localization.txt"))
    assert status == 1
    assert out.splitlines() == [
        f"{metadata / 'image_ids.txt'}, line 7: '{ids[0]}' stands here for the second time; remove one",
        f"{labels}, line 2: numbers from 0 are due for '{ids[1]}', and this is 'x'",
        f"{labels}, line 3: 2 fields are due, and this is '{ids[2]}'",
        f"{labels}, line 7: 'odd' is not in image_ids.txt; the files must be of one split",
        f"{sizes}: no line for '{ids[5]}' ({metadata / 'image_ids.txt'}, line 6); the files must hold the same images",
        f"{boxes}, line 4: the box [5, 6, 4, 7] of '{ids[3]}' should be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1",
        f"{boxes}, line 5: the box [1, 1, 92, 5] lies outside its image '{ids[4]}' of 90 x 90 pixels; is it x0, y0, "
        "x1, y1 (not x, y, width, height), and is the image's size right?",
        f"{boxes}, line 6: numbers from 0 are due for '{ids[5]}', and this is '1, -2, 3, 4'",
        f"{metadata}: 8 mistakes",
        "  1 images",
        "  1 classes, 1 to 1 images in each",
        "  1 boxes, 1 to 1 an image",
        f"  sha256 of the boxes at 224: {out.split()[-1]}",
    ]
    with pytest.raises(UserError, match="second time"):  # and reading for an evaluation stops at the first
        read_metadata(metadata)


def test_images_and_their_sizes(tool, tree, metadata: Path) -> None:
    first, second, third = (record.image_id for record in read_metadata(metadata)[:3])
    (tree.root / "images" / first).unlink()
    Image.new("RGB", (11, 7)).save(tree.root / "images" / second)
    (tree.root / "images" / third).write_text("no image")
    size = read_metadata(metadata)[1].size
    status, out = tool(metadata, "--data", tree.root)
    lines = out.splitlines()
    assert status == 1
    assert lines[0] == f"{tree.root}: no image '{first}' in it"
    assert lines[1] == (
        f"{tree.root / 'images' / second}: '{second}' is 11 x 7 pixels, and {size[0]} x {size[1]} in image_sizes.txt"
    )
    assert lines[2].startswith(f"{tree.root / 'images' / third}: not a readable image")
    assert lines[3] == f"{metadata}: 3 mistakes"
    assert lines[4] == "  6 images"


def test_score_maps_of_another_split_may_lie_beside(tool, metadata: Path, maps: Path) -> None:
    val = metadata.parent / "val"
    val.mkdir()
    (val / "image_ids.txt").write_text("new/one.jpg")
    (maps / "new").mkdir()
    np.save(maps / "new" / "one.jpg.npy", np.zeros((2, 2)))
    status, out = tool(metadata.parent, "--split", "test", "--scoremaps", maps)
    assert status == 0
    assert "in order" in out


def test_missing_and_surplus_score_maps(tool, metadata: Path, maps: Path) -> None:
    first = read_metadata(metadata)[0].image_id
    (maps / f"{first}.npy").rename(maps / "other.jpg.npy")
    status, out = tool(metadata, "--scoremaps", maps)
    assert status == 1
    assert out.splitlines()[:3] == [
        f"{maps}: no score map '{first}.npy' in it",
        f"{maps}: the score map 'other.jpg.npy' is of no image of this set",
        f"{metadata}: 2 mistakes",
    ]


def test_masks_and_a_training_split(tool, tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder = tmp_path / "metadata" / split
        folder.mkdir(parents=True)
        (folder / "image_ids.txt").write_text(f"{split}/a/1.jpg\n{split}/a/2.jpg\n{split}/b/3.jpg")
        (folder / "class_labels.txt").write_text(f"{split}/a/1.jpg,0\n{split}/a/2.jpg,0\n{split}/b/3.jpg,2")
    (folder / "localization.txt").write_text(
        "val/a/1.jpg,val/a/1.png,val/a/i.png\nval/a/1.jpg,val/a/1b.png,\nval/a/2.jpg,val/a/2.png,\nval/b/3.jpg,m.png,"
    )
    status, out = tool(tmp_path / "metadata")
    counts = "  3 images\n  2 classes, 1 to 2 images in each\n  labels run to 2, and 1 of them have no image, from 1\n"
    assert (status, out) == (
        0,
        f"{tmp_path / 'metadata/train'}: in order\n{counts}  no boxes or masks: images to train on\n"
        f"{tmp_path / 'metadata/val'}: in order\n{counts}  4 masks, and 1 masks of what is ignored\n",
    )
    for name in ("val/a/1.jpg", "val/a/2.jpg", "val/b/3.jpg", "val/a/1.png", "val/a/2.png", "m.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    status, out = tool(tmp_path / "metadata", "--split", "val", "--data", tmp_path)
    assert status == 1
    assert out.splitlines()[:3] == [
        f"{tmp_path}: no mask 'val/a/1b.png' of 'val/a/1.jpg' in it",
        f"{tmp_path}: no mask 'val/a/i.png' of 'val/a/1.jpg' in it",
        f"{tmp_path / 'metadata/val'}: 2 mistakes",
    ]


def test_only_what_is_right_in_all_files_is_counted(tool, metadata: Path) -> None:
    path = metadata / "image_sizes.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    status, out = tool(metadata)
    assert status == 1
    assert "no line for " in out
    assert "  5 images\n" in out


def test_missing_files_do_not_hide_the_rest(tool, metadata: Path) -> None:
    (metadata / "localization.txt").unlink()
    with (metadata / "class_labels.txt").open("a") as file:
        file.write("\nodd,1")
    status, out = tool(metadata)
    assert status == 1
    assert f"{metadata}: no localization.txt" in out
    assert "class_labels.txt, line 7: 'odd' is not in image_ids.txt" in out
    (metadata / "image_ids.txt").unlink()
    status, out = tool(metadata)
    assert status == 1
    assert "no image_ids.txt" in out
    assert "odd" not in out
    assert ": 1 mistake\n" in out


def test_what_cannot_be_checked_is_refused(metadata: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder; it should hold image_ids.txt"):
        check_set(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        check_set(metadata, data=tmp_path / "nowhere")
    with pytest.raises(UserError, match="no split 'val' in it, only test"):
        check_set(metadata.parent, "val")
    (metadata.parent / "val").mkdir()
    (metadata.parent / "val/image_ids.txt").write_text("x")
    with pytest.raises(UserError, match="holds 2 splits, and score maps are of one"):
        check_set(metadata.parent, scoremaps=tmp_path)


def test_help_answers_without_the_package(tool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tool("--help")
    assert "python tools/check_wsol_data.py my_set/metadata --data my_set" in capsys.readouterr().out
