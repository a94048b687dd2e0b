"""tools/prepare_coco.py: a whole tree passes; each thing that is broken is named with its id and the remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from coco_tree import annotations, write_annotations, write_coco
from PIL import Image

from pretrain.console import UserError
from transfer.compat import prepare_detectron2
from transfer.prepare import official
from transfer.prepare.coco import check_content
from transfer.prepare.command import prepare_coco
from transfer.prepare.findings import Findings
from transfer.prepare.official import ANNOTATIONS, COCO, COCO_CATEGORIES, PICTURES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures 1 to 3 for training and 4, 5 for validation, with annotations 2 to 11."""
    write_coco(tmp_path, {"train": 3, "val": 2})
    return tmp_path


def refusal(root: Path, subset: bool = True) -> list[str]:
    with pytest.raises(UserError) as error:
        prepare_coco([], root, None, subset)
    return str(error.value).splitlines()


def load(root: Path, split: str = "val") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(annotations(root, split).read_text())
    return content


def test_a_whole_tree_is_in_order_and_noted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = load(root)
    content["annotations"] = content["annotations"][2:]
    write_annotations(root, "val", content)
    prepare_coco([], root, None, subset=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"COCO 2017 is in order: {root}/coco"
    assert " ".join(printed[1].split()) == "coco_2017_train 3 pictures with 6 objects"
    assert " ".join(printed[2].split()) == "coco_2017_val 2 pictures with 2 objects, 1 of them without any"
    size = annotations(root, "val").stat().st_size
    card = json.loads((root / "coco" / "verified.json").read_text())
    assert card["coco_2017_val"] == {"pictures": 2, "objects": 2, "annotation_bytes": size}


def test_only_validation_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path, {"val": 2})
    annotations(tmp_path, "train").touch()  # the archive has both; without pictures it is not read
    prepare_coco([], tmp_path, None, subset=True)
    printed = capsys.readouterr().out
    assert re.search(r"coco_2017_train +not there\n +train2017.zip, 19.3 GB: http://", printed)
    assert printed.count("http://") == 1


def test_nothing_there_and_no_annotations(tmp_path: Path) -> None:
    lines = refusal(tmp_path)
    assert lines[0] == f"COCO 2017: nothing of it is in {tmp_path}"
    assert all(f"    {archive.url}" in lines for archive in COCO.archives)
    write_coco(tmp_path, {"val": 1})
    annotations(tmp_path, "val").unlink()
    lines = refusal(tmp_path)
    assert "give annotations_trainval2017.zip" in lines[1]
    assert lines[2] == f"    {annotations(tmp_path, 'val')} is not there"
    assert not (tmp_path / "coco" / "verified.json").exists()


def test_official_numbers() -> None:
    prepare_detectron2()
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES as THEIRS

    assert {entry["id"]: entry["name"] for entry in THEIRS if entry["isthing"]} == COCO_CATEGORIES
    assert (PICTURES["coco_2017_train"], ANNOTATIONS["coco_2017_train"]) == (118_287, 860_001)
    assert (PICTURES["coco_2017_val"], ANNOTATIONS["coco_2017_val"]) == (5_000, 36_781)


def test_other_counts_and_categories_are_refused_unless_it_is_a_subset(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = refusal(root, subset=False)
    assert lines[0] == f"{annotations(root, 'train')}: 3 problems"
    assert "    3 images, officially 118,287" in lines
    assert "    6 annotations, officially 860,001" in lines
    assert "    78 differ: 1 is None, not 'person', 10 is None, not 'traffic light', 11 is " in "\n".join(lines)
    for split, number in (("train", 3), ("val", 2)):
        monkeypatch.setitem(official.PICTURES, f"coco_2017_{split}", number)
        monkeypatch.setitem(official.ANNOTATIONS, f"coco_2017_{split}", 2 * number)
        content = load(root, split)
        content["categories"] = [{"id": number, "name": name} for number, name in COCO_CATEGORIES.items()]
        write_annotations(root, split, content)
    prepare_coco([], root, None, subset=False)


WHOLE_ID = "at position 1: a whole number as id is needed"


@pytest.mark.parametrize(
    ("table", "key", "value", "what", "told"),
    [
        ("images", "id", 4, "stands there twice", "images: id 4, at positions 0 and 1"),
        ("images", "id", "5", "lacks a key", "images, at position 1: id, file_name, width, height are needed"),
        ("images", "file_name", "000000000004.jpg", "stands there twice", "images: file_name '000000000004.jpg', at"),
        ("images", "file_name", None, "lacks a key", "images, 5: id, file_name, width, height"),
        ("images", "width", 0, "lacks a key", "images, 5: id, file_name, width, height"),
        ("images", "width", 46, "another size", "000000000005.jpg is 45 x 30, "),
        ("images", "height", 40.0, "lacks a key", "images, 5: id, file_name, width, height"),
        ("categories", "id", 3, "stands there twice", "categories: id 3, at positions 0 and 1"),
        ("categories", "name", 3, "lacks a key", "categories, 17: id, name are needed"),
        ("annotations", "id", 8, "stands there twice", "annotations: id 8, at positions 0 and 1"),
        ("annotations", "id", 0, "whose id is 0", "annotations, 0: image 4"),
        ("annotations", "id", None, "lacks a key", WHOLE_ID),
        ("annotations", "image_id", 1, "of an image that is not there", "annotations, 9: image_id 1"),
        ("annotations", "image_id", [4], "of an image that is not there", "annotations, 9: image_id '[4]'"),
        ("annotations", "category_id", 4, "of a category that is not there", "annotations, 9: category_id 4"),
        ("annotations", "iscrowd", 2, "neither 0 nor 1", "annotations, 9: iscrowd 2"),
        ("annotations", "iscrowd", None, "neither 0 nor 1", "annotations, 9: iscrowd None"),
        ("annotations", "area", -1, "area that is negative", "annotations, 9: area -1"),
        ("annotations", "area", float("nan"), "area that is negative or not finite", "annotations, 9: area nan"),
        ("annotations", "area", "60", "area that is negative or not finite", "annotations, 9: area '60'"),
        ("annotations", "bbox", None, "not four finite numbers", "annotations, 9: bbox None"),
        ("annotations", "bbox", [1, 2, 3], "not four finite numbers", "annotations, 9: bbox [1, 2, 3]"),
        ("annotations", "bbox", [1, 2, 3, "4"], "not four finite numbers", "annotations, 9: bbox [1, 2, 3, '4']"),
        ("annotations", "bbox", [1, 2, float("inf"), 4], "not four finite numbers", "bbox [1, 2, inf, 4]"),
        ("annotations", "bbox", [1, 2, 10**400, 4], "not four finite numbers", "bbox [1, 2, 1000"),
        ("annotations", "bbox", [5, 5, -3, 4], "of negative extent", "annotations, 9: bbox [5, 5, -3, 4]"),
        ("annotations", "bbox", [5, 5, 3, -4], "of negative extent", "annotations, 9: bbox [5, 5, 3, -4]"),
        ("annotations", "bbox", [5, 5, 0, 4], "of no width or height", "annotations, 9: bbox [5, 5, 0, 4]"),
        ("annotations", "bbox", [5, 5, 4, 0], "of no width or height", "annotations, 9: bbox [5, 5, 4, 0]"),
        ("annotations", "bbox", [9, 5, 36.1, 4], "over the border by more than 1 pixel", "44 x 30 pixels, by 1.1"),
        ("annotations", "bbox", [9, 9, 9, 22.5], "over the border by more than 1 pixel", "44 x 30 pixels, by 1.5"),
        ("annotations", "bbox", [-2, 5, 9, 4], "over the border by more than 1 pixel", "44 x 30 pixels, by 2"),
        ("annotations", "bbox", [5, -2, 9, 4], "over the border by more than 1 pixel", "44 x 30 pixels, by 2"),
        ("annotations", "bbox", [45, 5, 9, 4], "box outside the image", "bbox [45, 5, 9, 4] in 44 x 30 pixels"),
        ("annotations", "bbox", [5, 31, 9, 4], "box outside the image", "bbox [5, 31, 9, 4] in 44 x 30 pixels"),
        ("annotations", "bbox", [5, -9, 8, 4], "box outside the image", "bbox [5, -9, 8, 4] in 44 x 30 pixels"),
        ("annotations", "bbox", [-9, 5, 8, 4], "box outside the image", "bbox [-9, 5, 8, 4] in 44 x 30 pixels"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5]], "neither polygons", "polygon 0: [1, 2, 3, 4, 5]"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, 6], 7], "neither polygons", "polygon 1: 7"),
        ("annotations", "segmentation", [1, 2, 3, 4, 5, 6], "neither polygons", "polygon 0: 1; an even number"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, float("nan")]], "neither polygons", "5, nan]; an even"),
        ("annotations", "segmentation", [[1, 2, 3, 4, 5, "6"]], "neither polygons", "'6']; an even number of finite"),
        ("annotations", "segmentation", "circle", "neither polygons", "annotations, 9: 'circle'"),
        ("annotations", "segmentation", [[1, 2, 3, 4]], "fewer than three points", "polygon 0: [1, 2, 3, 4]"),
        ("annotations", "segmentation", {"counts": "abc", "size": [44, 30]}, "neither polygons", "size [44, 30]; the"),
        ("annotations", "segmentation", {"size": [30, 44]}, "neither polygons", "counts None, size [30, 44]"),
        ("annotations", "segmentation", {"counts": [0, 1], "size": [30, 44]}, "neither polygons", "up to 1,320 pixels"),
        ("annotations", "segmentation", {"counts": [-1, 1321], "size": [30, 44]}, "neither polygons", "up to 1,320"),
    ],
)  # fmt: skip
def test_one_wrong_entry(root: Path, table: str, key: str, value: Any, what: str, told: str) -> None:
    content = load(root)
    content[table][1][key] = value
    write_annotations(root, "val", content)
    lines = refusal(root)
    assert lines[0].startswith(f"{annotations(root, 'val')}: ")
    [kind] = [number for number, line in enumerate(lines) if what in line and re.search(r"\(\d+\); ", line)]
    assert re.search(r"\(1\); .*(correct|delete|unpack|count from 1)", lines[kind]), "no remedy"
    assert told in lines[kind + 1]


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [-1, -1, 46, 32]},  # a pixel over each border
        {"bbox": [0.01, 5, 44.5, 24.99]},
        {"segmentation": []},
        {"segmentation": None},
        {"segmentation": {"counts": "PPYo0", "size": [30, 44]}},
        {"segmentation": [[1, 2, 3, 4, 5, 6], [1.5, 2, 3, 4, 5, 6, 7, 8]]},
        {"id": 900100000001, "area": 0},
    ],
)
def test_what_the_real_set_has_is_right(root: Path, change: dict[str, Any]) -> None:
    content = load(root)
    content["annotations"][1] |= change
    write_annotations(root, "val", content)
    prepare_coco([], root, None, subset=True)


def test_the_two_flat_boxes_of_train2017_are_a_warning(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = load(root)
    thing = content["annotations"][0]
    content["annotations"] = [{**thing, "id": number} for number in range(1, 2000)]
    flat = {"bbox": [29.65, 8.33, 1.03, 0.0], "area": 0.0}
    content["annotations"] += [{**thing, **flat, "id": number} for number in (918_000, 2_206_849)]
    write_annotations(root, "val", content)
    prepare_coco([], root, None, subset=True)
    told = capsys.readouterr().err
    assert "box of no width or height (2); " in told
    assert "    annotations, 2206849: bbox [29.65, 8.33, 1.03, 0.0]" in told.splitlines()


@pytest.mark.parametrize("content", [[], {"images": []}, {"images": [], "annotations": [], "categories": [1]}])
def test_a_file_that_is_not_coco(root: Path, content: Any) -> None:
    write_annotations(root, "val", content)
    lines = refusal(root)
    assert "file that is no COCO annotation file (1); " in lines[1]
    annotations(root, "val").write_text("{")
    assert lines != refusal(root)
    assert refusal(root)[0].startswith(f"{annotations(root, 'val')}: not valid JSON")


def test_pictures_are_compared_with_their_entries(root: Path) -> None:
    folder = root / "coco" / "val2017"
    (folder / "000000000004.jpg").unlink()
    (folder / "000000000005.jpg").write_bytes(b"\xff\xd8")
    lines = refusal(root)
    assert "picture that is not there (1); give the archive" in lines[1]
    assert lines[2] == (f"    {folder}/000000000004.jpg, named by {annotations(root, 'val')}, '000000000004.jpg'")
    assert "picture that cannot be opened (1)" in lines[3]
    assert f"{folder}/000000000005.jpg: " in lines[4]


def test_many_pictures_are_all_compared(tmp_path: Path) -> None:
    """More than a chunk: the last one counts as the first does."""
    write_coco(tmp_path, {"val": 1})
    content, folder = load(tmp_path), tmp_path / "coco" / "val2017"
    for number in range(2, 301):
        (folder / f"{number}.jpg").hardlink_to(folder / "000000000001.jpg")
        content["images"].append({**content["images"][0], "id": number, "file_name": f"{number}.jpg"})
    write_annotations(tmp_path, "val", content)
    prepare_coco([], tmp_path, None, subset=True)
    for name in ("000000000001.jpg", "300.jpg"):
        (folder / name).unlink()
        Image.new("RGB", (9, 9)).save(folder / name)
    lines = refusal(tmp_path)
    assert "another size than its annotation says (2)" in lines[1]
    assert "300.jpg is 9 x 9" in lines[3]


def test_every_problem_is_counted() -> None:
    findings = Findings("file")
    images = [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}]
    things = [{"id": number, "image_id": 2, "bbox": [1, 1, 2, 2], "iscrowd": 0, "area": 4} for number in range(1, 8)]
    check_content({"images": images, "annotations": things, "categories": []}, findings)
    assert sorted(findings.errors.values()) == [7, 7]
    report = findings.report(findings.errors)
    assert [line.strip() for line in report].count("...") == 2
    assert len(report) == 2 * (1 + 3 + 1)


def test_a_tree_that_cannot_be_written_to(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, value: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("transfer.prepare.command.write_json", refuse)
    prepare_coco([], root, None, subset=True)
    assert "verified.json: not written (Permission denied)" in capsys.readouterr().err
