"""A missing or damaged data set is told before anything is built: what, where, what is there, and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from voc_tree import write_voc

from pretrain.console import UserError
from transfer.datasets import CocoSplit, VocSplit, data_root, preflight


def refusal(names: list[str], root: Path) -> list[str]:
    with pytest.raises(UserError) as error:
        preflight(names, root)
    return str(error.value).splitlines()


def test_whole_tree(tmp_path: Path) -> None:
    write_voc(tmp_path)
    found = preflight(["voc_2007_trainval", "voc_2012_trainval", "voc_2007_test"], tmp_path)
    assert found[1] == VocSplit("voc_2012_trainval", tmp_path / "VOCdevkit" / "VOC2012", 2012, "trainval")


def test_detectron2s_own_layout(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / "VOCdevkit" / "VOC2007").rename(tmp_path / "VOC2007")
    [split] = preflight(["voc_2007_test"], tmp_path)
    assert isinstance(split, VocSplit)
    assert split.folder == tmp_path / "VOC2007"


def test_no_folder_at_all(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    lines = refusal(["voc_2007_trainval"], root)
    assert lines[0] == f"voc_2007_trainval: {root}/VOCdevkit/VOC2007/ImageSets/Main/trainval.txt is not there"
    assert f"  {root}/VOCdevkit/VOC2007/   (or {root}/VOC2007/)" in lines
    assert f"  {root}/ does not exist" in lines
    assert any(line.strip().startswith(f"python tools/prepare_voc.py --out {root}") for line in lines)
    assert any(line.strip().startswith(f"python tools/prepare_demo.py --out {root}") for line in lines)


def test_wrong_folder_is_listed(tmp_path: Path) -> None:
    write_voc(tmp_path / "deeper")
    lines = refusal(["voc_2007_trainval"], tmp_path)
    assert "    deeper/   (1 entries)" in lines


def test_missing_picture_and_annotation(tmp_path: Path) -> None:
    write_voc(tmp_path)
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    picture = next((folder / "JPEGImages").iterdir())
    picture.rename(tmp_path / "elsewhere")
    assert refusal(["voc_2012_trainval"], tmp_path)[0] == (
        f"voc_2012_trainval: {picture} is not there (1 of 4 missing)"
    )
    (tmp_path / "elsewhere").rename(picture)
    (folder / "Annotations" / f"{picture.stem}.xml").unlink()
    assert f"{picture.stem}.xml is not there" in refusal(["voc_2012_trainval"], tmp_path)[0]
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("\n")
    assert "names no picture" in refusal(["voc_2012_trainval"], tmp_path)[0]


def write_coco(root: Path, files: tuple[str, ...] = ("a.jpg", "b.jpg")) -> tuple[Path, Path, dict[str, Any]]:
    images, annotations = root / "coco" / "val2017", root / "coco" / "annotations" / "instances_val2017.json"
    annotations.parent.mkdir(parents=True)
    entries = [{"id": number, "file_name": name, "width": 9, "height": 8} for number, name in enumerate(files)]
    content = {"images": entries, "annotations": [], "categories": []}
    annotations.write_text(json.dumps(content))
    return images, annotations, content


def test_coco(tmp_path: Path) -> None:
    path = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    assert f"{path} is not there" in refusal(["coco_2017_val"], tmp_path)[0]
    images, annotations, _ = write_coco(tmp_path)
    assert annotations == path
    assert refusal(["coco_2017_val"], tmp_path)[0] == f"coco_2017_val: {images} is not there"
    images.mkdir()
    assert f"{images} is empty" in refusal(["coco_2017_val"], tmp_path)[0]
    (images / "a.jpg").touch()
    lines = refusal(["coco_2017_val"], tmp_path)
    assert lines[0].endswith("b.jpg is not there (1 of 2 missing)")
    assert any(line.startswith(f"  python tools/prepare_coco.py --out {tmp_path} ") for line in lines)
    (images / "b.jpg").touch()
    assert preflight(["coco_2017_val"], tmp_path) == [CocoSplit("coco_2017_val", images, annotations)]
    annotations.write_text("{")
    assert "not valid JSON" in refusal(["coco_2017_val"], tmp_path)[0]


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": [], "annotations": {}, "categories": []}'])
def test_json_that_is_not_coco(content: str, tmp_path: Path) -> None:
    images, annotations, _ = write_coco(tmp_path)
    images.mkdir()
    (images / "a.jpg").touch()
    annotations.write_text(content)
    [line] = refusal(["coco_2017_val"], tmp_path)
    assert line.startswith(f"{annotations}: lists of objects named images, annotations, categories are needed: ")
    assert line.endswith(f"python tools/prepare_coco.py --out {tmp_path}")


def test_wrong_entries_are_told_in_one_line(tmp_path: Path) -> None:
    images, annotations, content = write_coco(tmp_path)
    images.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (images / name).touch()
    thing = {"id": 5, "image_id": 1, "category_id": 2, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
    content |= {"annotations": [thing], "categories": [{"id": 2, "name": "cat"}]}
    annotations.write_text(json.dumps(content))
    preflight(["coco_2017_val"], tmp_path)
    thing["bbox"] = [1, 1, 3, 0]  # the frameworks cope with it
    annotations.write_text(json.dumps(content))
    preflight(["coco_2017_val"], tmp_path)
    thing["image_id"] = 7
    annotations.write_text(json.dumps(content))
    [line] = refusal(["coco_2017_val"], tmp_path)
    assert line.startswith(f"{annotations}: annotations, 5: image_id 7: annotation of an image that is not there; ")


def test_large_coco_is_compared_with_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer.datasets.READ_WHOLE_BELOW", 0)
    images, annotations, _ = write_coco(tmp_path)
    images.mkdir()
    (images / "a.jpg").touch()
    preflight(["coco_2017_val"], tmp_path)  # never checked: nothing to compare with
    card = {"coco_2017_val": {"pictures": 2, "objects": 0, "annotation_bytes": annotations.stat().st_size}}
    (tmp_path / "coco" / "verified.json").write_text(json.dumps(card))
    assert refusal(["coco_2017_val"], tmp_path)[0] == ("coco_2017_val: 1 pictures are left of the 2 that were checked")
    (images / "b.jpg").touch()
    preflight(["coco_2017_val"], tmp_path)
    annotations.write_text(annotations.read_text()[:-9])
    assert "bytes, and had" in refusal(["coco_2017_val"], tmp_path)[0]


def test_half_unpacked_coco(tmp_path: Path) -> None:
    images, _, _ = write_coco(tmp_path)
    images.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (images / name).touch()
    marker = tmp_path / "coco" / ".unpacking"
    marker.write_text("val2017.zip is being unpacked; python tools/prepare_coco.py goes on\n")
    line = refusal(["coco_2017_val"], tmp_path)[0]
    assert line.startswith(f"coco_2017_val: {tmp_path}/coco is not complete: val2017.zip is being unpacked; ")
    marker.unlink()
    preflight(["coco_2017_val"], tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("</size>", "", "annotation that cannot be read"),
        ("<width>128</width>", "", "annotation without a size"),
        ("<xmax>", "<xmax>x", "object without a box of four finite numbers"),
    ],
)
def test_wrong_annotation_is_told_in_one_line(old: str, new: str, what: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    path = tmp_path / "VOCdevkit" / "VOC2007" / "Annotations" / "2007_test_1.xml"
    path.write_text(path.read_text().replace(old, new))
    preflight(["voc_2007_trainval"], tmp_path)
    [line] = refusal(["voc_2007_test"], tmp_path)
    assert line.startswith(f"voc_2007_test: {path}")
    assert f": {what}; correct the file" in line
    assert line.endswith(f"all of them: python tools/prepare_voc.py --out {tmp_path}")


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="voc_2007_trainvl is unknown; did you mean 'voc_2007_trainval'"):
        preflight(["voc_2007_trainvl"], tmp_path)


def test_root(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA_ROOT", "DETECTRON2_DATASETS"):
        monkeypatch.delenv(name, raising=False)
    assert data_root(None) == Path("data")
    monkeypatch.setenv("DETECTRON2_DATASETS", "/sets")
    assert data_root(None) == Path("/sets")
    monkeypatch.setenv("DATA_ROOT", "/all")
    assert data_root(None) == Path("/all")
    assert data_root("here") == Path("here")
