"""A missing or damaged data set is told before anything is built: what, where, what is there, and the remedy."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_coco(tmp_path: Path) -> None:
    images, annotations = tmp_path / "coco" / "val2017", tmp_path / "coco" / "annotations" / "instances_val2017.json"
    assert f"{annotations} is not there" in refusal(["coco_2017_val"], tmp_path)[0]
    annotations.parent.mkdir(parents=True)
    content = {"images": [{"file_name": "a.jpg"}, {"file_name": "b.jpg"}], "annotations": [], "categories": []}
    annotations.write_text(json.dumps(content))
    assert refusal(["coco_2017_val"], tmp_path)[0] == f"coco_2017_val: {images} is not there"
    images.mkdir()
    assert f"{images} is empty" in refusal(["coco_2017_val"], tmp_path)[0]
    (images / "a.jpg").touch()
    assert refusal(["coco_2017_val"], tmp_path)[0].endswith("b.jpg is not there (1 of 2 missing)")
    (images / "b.jpg").touch()
    assert preflight(["coco_2017_val"], tmp_path) == [CocoSplit("coco_2017_val", images, annotations)]
    annotations.write_text("[]")
    assert "is no COCO annotation file" in refusal(["coco_2017_val"], tmp_path)[0]
    annotations.write_text("{")
    assert "not valid JSON" in refusal(["coco_2017_val"], tmp_path)[0]


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
