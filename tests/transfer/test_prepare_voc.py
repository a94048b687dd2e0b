"""tools/prepare_voc.py: a whole tree passes; each thing that is broken is named with its file, entry and remedy."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets.voc import DATASET_YEAR_DICT
from voc_tree import write_voc

from pretrain.console import UserError, run_tool
from transfer.prepare import official
from transfer.prepare.command import prepare_voc
from transfer.prepare.findings import Findings, Problem, conclude
from transfer.prepare.official import PICTURES, VOC

TOOL = Path(__file__).parents[2] / "tools" / "prepare_voc.py"
STEM = "2007_trainval_2"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with all lists: 2007 has 3 + 3 pictures and 4 for the test, 2012 has 2 + 2; one object each."""
    write_voc(tmp_path)
    for folder in (tmp_path / "VOCdevkit").iterdir():
        main = folder / "ImageSets" / "Main"
        names = main.joinpath("trainval.txt").read_text().split()
        main.joinpath("train.txt").write_text("\n".join(names[::2]))
        main.joinpath("val.txt").write_text("\n".join(names[1::2]))
    return tmp_path


def refusal(root: Path, subset: bool = True) -> list[str]:
    with pytest.raises(UserError) as error:
        prepare_voc([], root, None, subset)
    return str(error.value).splitlines()


def edit(root: Path, old: str, new: str, stem: str = STEM) -> Path:
    path = root / "VOCdevkit" / "VOC2007" / "Annotations" / f"{stem}.xml"
    text = path.read_text()
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    path.write_text(changed)
    return path


def test_a_whole_tree_is_in_order(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_voc([], root, None, subset=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"PASCAL VOC is in order: {root}/VOCdevkit"
    assert [line.split()[:2] for line in printed[1:-1]] == [
        ["voc_2007_train", "3"], ["voc_2007_val", "3"], ["voc_2007_trainval", "6"], ["voc_2007_test", "4"],
        ["voc_2012_train", "2"], ["voc_2012_val", "2"], ["voc_2012_trainval", "4"],
    ]  # fmt: skip
    assert printed[-1].endswith(f"--data-root {root}")


def test_what_is_not_there_is_told_with_its_address(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    (root / "VOCdevkit" / "VOC2007").rename(root / "VOC2007")  # Detectron2's own layout
    prepare_voc([], root, None, subset=True)
    printed = capsys.readouterr().out
    assert re.search(r"voc_2007_test +not there\n +VOCtest_06-Nov-2007.tar, 451 MB: https://", printed)
    assert printed.count("not there") == printed.count("https://") == 1


def test_nothing_there_says_what_to_fetch(tmp_path: Path) -> None:
    lines = refusal(tmp_path)
    assert lines[0] == f"PASCAL VOC: nothing of it is in {tmp_path}"
    for archive in VOC.archives:
        assert f"    {archive.url}" in lines
        assert any(archive.name in line and str(archive.checksum) in line for line in lines)
    assert any(f"python tools/prepare_voc.py ARCHIVE ... --out {tmp_path}" in line for line in lines)


def test_official_numbers() -> None:
    by_name = {entry["filename"]: entry["md5"] for year, entry in DATASET_YEAR_DICT.items() if year != "2008"}
    for archive in VOC.archives:
        assert archive.checksum == f"md5:{by_name[archive.name]}"
    for year in (2007, 2012):  # the development kits' tables
        assert PICTURES[f"voc_{year}_train"] + PICTURES[f"voc_{year}_val"] == PICTURES[f"voc_{year}_trainval"]
    assert PICTURES["voc_2007_trainval"] + PICTURES["voc_2012_trainval"] == 16_551
    assert PICTURES["voc_2007_test"] == 4_952


def test_other_counts_are_refused_unless_it_is_a_subset(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = refusal(root, subset=False)
    assert lines[0] == f"{root}/VOCdevkit/VOC2007: 4 problems"
    assert "say --subset if another set is meant" in lines[1]
    assert lines[2] == f"    {root}/VOCdevkit/VOC2007/ImageSets/Main/train.txt: 3 pictures, officially 2,501"
    assert lines[-4:] == ["the official archives:", *(f"  {archive.url}" for archive in VOC.archives)]
    counts = (3, 3, 6, 4, 2, 2, 4)
    for name, count in zip((name for name in list(PICTURES) if name.startswith("voc")), counts):
        monkeypatch.setitem(official.PICTURES, name, count)
    prepare_voc([], root, None, subset=False)
    monkeypatch.setitem(official.PICTURES, "voc_2007_val", 4)
    assert refusal(root, subset=False)[0].endswith("VOC2007: 1 problem")


@pytest.mark.parametrize(
    ("old", "new", "what", "told"),
    [
        ("</object>", "", "annotation that cannot be read", "ParseError: mismatched tag"),
        ("annotation>(?s:.*)annotation>", "note></note>", "annotation that cannot be read", "begins with <note>"),
        ("^", '<?xml version="1.0" encoding="no-such"?>', "annotation that cannot be read", "Error"),
        (f"{STEM}.jpg", "other.jpg", "annotation of another picture", f"<filename> is 'other.jpg', not '{STEM}.jpg'"),
        ("<filename>.*</filename>", "", "annotation of another picture", "<filename> is ''"),
        ("<width>128</width>", "", "annotation without a size", "<width> and a <height>"),
        ("<height>96</height>", "<height>0</height>", "annotation without a size", "<width> and a <height>"),
        ("<height>96", "<height>97", "picture of another size", "is 128 x 96, "),
        ("<name>cat", "<name>cats", "object of a class that is none of the 20", "object 1: 'cats'; did you mean 'cat'"),
        ("<name>cat", "<name>cat ", "object of a class that is none of the 20", "object 1: 'cat '; did you mean"),
        ("<difficult>0", "<difficult>yes", "neither 0 nor 1", "object 1 (cat): 'yes'"),
        ("<bndbox>.*</bndbox>", "", "object without a box of four finite numbers", "object 1 (cat): xmin , ymin "),
        ("<ymin>", "<ymin>nan", "object without a box of four finite numbers", "object 1 (cat): xmin "),
        ("<ymin>[0-9]*", "<ymin>nan", "object without a box of four finite numbers", "ymin nan"),
        ("<xmax>[0-9]*", "<xmax>inf", "object without a box of four finite numbers", "xmax inf"),
        ("<xmin>[0-9]*", "<xmin>127", "box whose corners are swapped", "object 1 (cat): xmin 127, "),
        ("<ymin>[0-9]*", "<ymin>96", "box whose corners are swapped", "ymin 96"),
        ("<xmin>.*</ymax>", "<xmin>7</xmin><ymin>2</ymin><xmax>7</xmax><ymax>9</ymax>", "no width or height", "xmax 7"),
        ("<xmin>.*</ymax>", "<xmin>7</xmin><ymin>9</ymin><xmax>8</xmax><ymax>9</ymax>", "no width or height", "ymax 9"),
        ("<xmax>[0-9]*", "<xmax>129", "box that reaches over the border", "xmax 129, ymax "),
        ("<ymax>[0-9]*", "<ymax>96.5", "box that reaches over the border", "in 128 x 96 pixels"),
        ("<xmin>[0-9]*", "<xmin>0", "box that reaches over the border", "xmin 0"),
        ("<ymin>[0-9]*", "<ymin>-3", "box that reaches over the border", "ymin -3"),
        ("<xmin>.*</xmax>", "<xmin>129</xmin><ymin>2</ymin><xmax>140</xmax>", "box outside the picture", "xmin 129"),
        ("<xmin>.*</xmax>", "<xmin>-9</xmin><ymin>2</ymin><xmax>0</xmax>", "box outside the picture", "xmax 0"),
        ("<ymin>.*</ymax>", "<ymin>97</ymin><xmax>99</xmax><ymax>99</ymax>", "box outside the picture", "ymin 97"),
    ],
)  # fmt: skip
def test_one_wrong_entry(root: Path, old: str, new: str, what: str, told: str) -> None:
    path = edit(root, old, new)
    place, kind, where, *rest = refusal(root)
    assert place == f"{root}/VOCdevkit/VOC2007: 1 problem"
    assert what in kind
    assert re.search(r"\(1\); .*(correct|delete|unpack)", kind), "no remedy"
    assert str(path) in where
    assert told in where
    assert rest[0] == "the official archives:"


def test_an_entity_bomb_is_not_expanded(root: Path) -> None:
    doctype = '<!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    path = edit(root, "^", doctype)
    edit(root, "<name>cat", "<name>&b;")
    lines = refusal(root)
    assert "annotation that cannot be read (1)" in lines[1]
    assert lines[2].startswith(f"    {path}: EntitiesForbidden")


def test_what_the_real_set_has_is_right(root: Path) -> None:
    edit(root, "<xmin>.*</ymax>", "<xmin>1</xmin><ymin>1</ymin><xmax>128</xmax><ymax>96</ymax>")
    edit(root, "<ymin>[0-9]*", "<ymin>45.70000076293945", "2007_trainval_3")
    part = "<part><name>head</name><bndbox><xmin>-5</xmin><ymin>9</ymin><xmax>3</xmax><ymax>2</ymax></bndbox></part>"
    edit(root, "</object>", f"{part}</object>", "2007_trainval_4")
    prepare_voc([], root, None, subset=True)


def test_a_picture_without_an_object_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = edit(root, "<object>(?s:.*)</object>", "")
    prepare_voc([], root, None, subset=True)
    captured = capsys.readouterr()
    assert "picture without an object (1); " in captured.err
    assert f"    {path}" in captured.err.splitlines()
    assert re.search(r"voc_2007_trainval +6 pictures with +5 objects, 1 of them without any", captured.out)


def test_missing_files_are_counted_and_the_first_few_named(root: Path) -> None:
    folder = root / "VOCdevkit" / "VOC2007"
    pictures = [folder / "JPEGImages" / f"2007_trainval_{number}.jpg" for number in range(5)]
    for picture in pictures:
        picture.unlink()
    (folder / "Annotations" / "2007_trainval_0.xml").unlink()  # its picture is missed all the same
    lines = refusal(root)
    assert lines[0] == f"{folder}: 6 problems"
    heads = {line.split(" (")[0].strip(): number for number, line in enumerate(lines)}
    assert "(1); give the archive" in lines[heads["annotation that is not there"]]
    first = heads["picture that is not there"]
    assert "(5); give the archive to the prepare tool again" in lines[first]
    assert [str(picture) in line for picture in pictures[::2] for line in lines[first + 1 : first + 4]].count(True) == 3
    assert lines[first + 4] == "    ..."


def test_wrong_pictures(root: Path) -> None:
    picture = root / "VOCdevkit" / "VOC2007" / "JPEGImages" / f"{STEM}.jpg"
    whole = picture.read_bytes()
    for content in (b"", whole[:20], b"<html>"):
        picture.write_bytes(content)
        lines = refusal(root)
        assert "picture that cannot be opened (1)" in lines[1]
        assert str(picture) in lines[2]
    Image.new("RGB", (96, 128)).save(picture)
    lines = refusal(root)
    assert lines[2].startswith(f"    {picture} is 96 x 128, ")
    assert lines[2].endswith(f"{STEM}.xml says 128 x 96")


@pytest.mark.parametrize(
    ("split", "change", "what", "told"),
    [
        ("test", lambda names: [], "list of another length", "test.txt: 0 pictures"),
        ("test", lambda names: [*names, names[0]], "picture listed twice", "test.txt: 2007_test_0"),
        ("trainval", lambda names: names[1:], "do not fit together", "not train.txt and val.txt together: 2007_"),
        ("train", lambda names: names[1:], "do not fit together", "not train.txt and val.txt together: 2007_"),
        ("val", lambda names: [*names, "2007_trainval_0"], "do not fit", "in train.txt and in val.txt: 2007_"),
        ("test", lambda names: [*names, "2007_trainval_0"], "do not fit", "for training and in test.txt: 2007_"),
        ("test", lambda names: [*names, "gone"], "annotation that is not there", "gone.xml"),
    ],
)  # fmt: skip
def test_wrong_lists(root: Path, split: str, change: Callable[[list[str]], list[str]], what: str, told: str) -> None:
    path = root / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / f"{split}.txt"
    path.write_text("\n".join(change(path.read_text().split())))
    lines = refusal(root)
    assert what in lines[1]
    assert told in lines[2]


def test_an_oddity_is_one_in_a_thousand(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem("odd thing", "mend it")
    for objects in (999, 1000):
        findings = Findings("here")
        findings.oddity(problem, "there")
        findings.settle(objects)
        if objects < 1000:
            with pytest.raises(UserError, match=r"^here: 1 problem\n  odd thing \(1\); mend it\n    there\nadvice$"):
                conclude([findings], "advice")
        else:
            conclude([findings], "advice")
            assert "warning: here: accepted" in capsys.readouterr().err


def test_the_command_line(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("prepare_voc_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for arguments, status in ((["--out", str(root), "--subset"], 0), (["--out", str(root)], 2)):
        monkeypatch.setattr("sys.argv", ["prepare_voc.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            run_tool(module.main)
        assert stop.value.code == status
    assert f"error: {root}/VOCdevkit/VOC2007: 4 problems" in capsys.readouterr().err
    monkeypatch.setenv("DATA_ROOT", str(root))
    monkeypatch.setattr("sys.argv", ["prepare_voc.py", "--subset"])
    module.main()
