"""CUB's true boxes in wsolevaluation's layout, and CUBV2 beside them, from archives of the real layout."""

import hashlib
import importlib.util
import struct
import tarfile
from pathlib import Path

import pytest
from prepare_layouts import picture, write_tar

from pretrain.archives.reading import Source
from pretrain.console import UserError
from pretrain.data.prepare import localisation
from pretrain.data.prepare.cub_boxes import corners, read_cubv2
from pretrain.data.prepare.localisation import Located, boxes_digest, compared, read_split, write_split
from wsol.metadata import boxes_digest as digest_of_wsol
from wsol.metadata import find_image, image_size, read_metadata
from wsol.metadata import read_split as read_as_wsol_does

ROOT = Path(__file__).parents[4]
FILES = ["class_labels.txt", "image_ids.txt", "image_sizes.txt", "localization.txt"]
FOLDERS = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]

# Images 1 and 3 of CUB_200_2011: bounding_boxes.txt has "1 60.0 27.0 325.0 304.0" and "3 14.0 112.0 388.0 186.0", and
# wsolevaluation's metadata/CUB/test begins with them. Its metadata/CUB/val begins with the third line.
CUB_1 = Located("001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", 0, (500, 335), (60, 27, 385, 331))
CUB_3 = Located("001.Black_footed_Albatross/Black_Footed_Albatross_0002_55.jpg", 0, (500, 347), (14, 112, 402, 298))
CUBV2_1 = Located("001.Black_footed_Albatross/30107316117.jpg", 0, (560, 419), (176, 136, 459, 291))


@pytest.fixture
def prepare(make, monkeypatch, tmp_path):
    """Run tools/prepare_cub.py on the miniature archive, which `changed` may spoil."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, built=None, **changes):
        built = built or make("cub200", **changes)
        monkeypatch.setattr("pretrain.data.prepare.cub.CUB", built.data_set)
        monkeypatch.setattr("sys.argv", ["tools/prepare_cub.py", "--archives", str(built.folder), *map(str, arguments)])
        spec = importlib.util.spec_from_file_location("prepare_cub", ROOT / "tools/prepare_cub.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main()
        return built

    return run


@pytest.fixture
def cubv2(tmp_path):
    """CUBV2 in miniature: its tar, and the clone of wsolevaluation with its metadata; five images, of sizes 5 to 9."""
    images = [
        Located(f"{FOLDERS[number % 3]}/{number}00.jpg", number % 3, (5 + number,) * 2, (1, 0, 3, number))
        for number in range(5)
    ]
    files = {f"./{image.image_id}": picture((9, 9, 9), image.size[0]) for image in images}
    files[f"./{FOLDERS[0]}/._000.jpg"] = b"what a Mac leaves"
    write_tar(tmp_path / "CUBV2.tar", files)
    write_split(tmp_path / "clone", "val", images)
    (tmp_path / "clone/metadata/CUB").mkdir()
    (tmp_path / "clone/metadata/val").rename(tmp_path / "clone/metadata/CUB/val")
    return images


def test_boxes_are_corners_and_truncated(tmp_path):
    source = Source(tmp_path / "CUB_200_2011.tgz")
    assert corners(source, "1", {"1": "60.0 27.0 325.0 304.0"}) == CUB_1.box
    assert corners(source, "3", {"3": "14.0 112.0 388.0 186.0"}) == CUB_3.box
    assert corners(source, "1", {"1": "1.5 2.9 3.7 4.0"}) == (1, 2, 5, 6)


@pytest.mark.parametrize("line", ["1 2 3", "1 2 3 x", "1 2 3 -4", "1 2 3 inf", "1 2 3 4 5"])
def test_a_wrong_box_is_named(tmp_path, line):
    with pytest.raises(UserError, match=rf"x\.tgz: bounding_boxes\.txt has '{line}' for image 7"):
        corners(Source(tmp_path / "x.tgz"), "7", {"7": line})
    with pytest.raises(UserError, match="'nothing' for image 8"):
        corners(Source(tmp_path / "x.tgz"), "8", {"7": line})


def test_the_files_are_as_published(tmp_path):
    write_split(tmp_path, "test", [CUB_1, CUB_3])
    folder = tmp_path / "metadata/test"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert (folder / "image_ids.txt").read_text() == f"{CUB_1.image_id}\n{CUB_3.image_id}"
    assert (folder / "class_labels.txt").read_text() == f"{CUB_1.image_id},0\n{CUB_3.image_id},0"
    assert (folder / "image_sizes.txt").read_text() == f"{CUB_1.image_id},500,335\n{CUB_3.image_id},500,347"
    assert (folder / "localization.txt").read_text() == (
        f"{CUB_1.image_id},60,27,385,331\n{CUB_3.image_id},14,112,402,298"
    )
    assert read_split(folder) == [CUB_1, CUB_3]


def test_the_digest_is_that_of_wsol(tmp_path):
    # CUB's first test box at 224 is 26, 18, 172, 221, and CUBV2's first 70, 72, 183, 155 (facts of the published sets).
    first = struct.pack("<4q", 26, 18, 172, 221)
    assert boxes_digest([CUB_1]) == hashlib.sha256(first).hexdigest()
    assert boxes_digest([CUBV2_1]) == hashlib.sha256(struct.pack("<4q", 70, 72, 183, 155)).hexdigest()
    write_split(tmp_path, "test", [CUB_1, CUB_3, CUBV2_1])
    assert digest_of_wsol(read_metadata(tmp_path / "metadata/test"), 224) == boxes_digest([CUB_1, CUB_3, CUBV2_1])


def test_a_set_of_the_published_size_must_have_the_published_boxes(monkeypatch):
    assert compared("test", [CUB_1]) == "test 1 images, not the published 5,794"
    monkeypatch.setitem(localisation.PUBLISHED, "test", (2, boxes_digest([CUB_1, CUB_3])[:16]))
    assert compared("test", [CUB_1, CUB_3]) == "test 2 images, boxes as published"
    with pytest.raises(UserError, match="test: the boxes of its 2 images at 224 pixels have the SHA-256"):
        compared("test", [CUB_3, CUB_1])


def test_the_published_figures():
    assert localisation.PUBLISHED == {
        "train": (5994, ""),
        "val": (1000, "f4c409fad6f81276"),
        "test": (5794, "e3557e61b70252ce"),
    }


def test_the_boxes_lie_beside_the_images(prepare, capsys, tmp_path):
    prepare()
    root = tmp_path / "data/cub200"
    assert sorted(path.name for path in (root / "metadata").iterdir()) == ["test", "train"]
    for split, count in (("train", 12), ("test", 6)):
        records, where = read_as_wsol_does(root, None, split)
        assert (len(records), where) == (count, "metadata")
        for record in records:
            assert image_size(find_image(root, record.image_id)) == record.size == (4, 4)
            assert FOLDERS[record.label] == record.image_id.partition("/")[0]
    # Images 13 to 18 are the test images, three classes in turn; the box of class 1's first is "1.0 1.0 2.0 0.5".
    assert [record.image_id[-8:-4] for record in records] == ["0013", "0014", "0015", "0016", "0017", "0018"]
    assert records[1].boxes.tolist() == [[1, 1, 3, 1]]
    assert records[4].boxes.tolist() == [[1, 1, 3, 2]]
    with pytest.raises(UserError, match="metadata: no split 'val' in it, only train, test; CUB's comes from CUBV2"):
        read_as_wsol_does(root, None, "val")
    out = capsys.readouterr().out
    assert "  localisation: data/cub200/metadata\n    train 12 images, not the published 5,994\n    test 6 " in out
    assert out.endswith("    no val: that is CUBV2, see --cubv2\n")


def test_boxes_that_are_not_the_published_ones_leave_the_images_to_train_on(prepare, monkeypatch, tmp_path):
    monkeypatch.setitem(localisation.PUBLISHED, "test", (6, "0000"))
    words = r"the SHA-256 [0-9a-f]{16}, and 0000 is published; .* \(the images in data/cub200 are in place all the same"
    with pytest.raises(UserError, match=words):
        prepare()
    assert len(list((tmp_path / "data/cub200/val").glob("*/*.*"))) == 6
    assert not (tmp_path / "data/cub200/metadata").exists()


def test_a_fraction_has_the_boxes_of_its_images(prepare, tmp_path):
    prepare("--fraction", 0.5, "--out", "half")
    there = {path.name for path in (tmp_path / "half").glob("val/*/*")}
    records, _ = read_as_wsol_does(tmp_path / "half", None, "test")
    assert len(records) == 3
    assert {Path(record.image_id).name for record in records} == there


def test_a_tree_that_was_arranged_without_boxes_gets_them(prepare, make, arranged, tmp_path):
    built = make("cub200")
    arranged(built, tmp_path / "data/cub200")
    archive = built.folder / "CUB_200_2011.tgz"
    archive.rename(tmp_path / "away.tgz")
    with pytest.raises(UserError, match="files that are not in"):
        prepare(built=built)
    assert not (tmp_path / "data/cub200/metadata").exists()
    assert (tmp_path / "data/cub200/dataset.json").exists()
    (tmp_path / "away.tgz").rename(archive)
    prepare(built=built)
    assert len(read_as_wsol_does(tmp_path / "data/cub200", None, "test")[0]) == 6


def test_nothing_half_written_stays(prepare, make, arranged, monkeypatch, tmp_path):
    built = make("cub200")
    calls = []

    def fail(path, text):
        calls.append(path.name)
        if path.name == "image_sizes.txt":
            raise OSError(28, "no space left")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    with monkeypatch.context() as patched:
        patched.setattr("pretrain.data.prepare.localisation.write_text", fail)
        with pytest.raises(OSError, match="no space"):
            prepare(built=built)
    assert calls
    assert not (tmp_path / "data/cub200/metadata/train").exists()
    prepare(built=built)
    folder = tmp_path / "data/cub200/metadata"
    assert sorted(path.name for path in folder.iterdir()) == ["test", "train"]


def test_wrong_boxes_leave_no_metadata(prepare, tmp_path):
    def spoil(files):
        name = "CUB_200_2011/bounding_boxes.txt"
        files[name] = files[name].replace(b"13 0.0", b"13 -1.0")

    with pytest.raises(UserError, match="for image 13"):
        prepare(changed=spoil)
    assert not (tmp_path / "data/cub200/metadata").exists()


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("given", ["clone", "clone/metadata/CUB", "clone/metadata/CUB/val"])
def test_cubv2_becomes_val(prepare, cubv2, capsys, tmp_path, unpacked, given):
    images = "CUBV2.tar"
    if unpacked:
        with tarfile.open(tmp_path / "CUBV2.tar") as archive:
            archive.extractall(tmp_path / "unpacked/CUBV2", filter="data")
        images = "unpacked"
    built = prepare("--cubv2", images, "--cubv2-metadata", given)
    root = tmp_path / "data/cub200"
    records, _ = read_as_wsol_does(root, None, "val")
    assert [(record.image_id, record.label, record.size) for record in records] == [
        (image.image_id, image.label, image.size) for image in cubv2
    ]
    assert [tuple(record.boxes[0]) for record in records] == [image.box for image in cubv2]
    assert [image_size(find_image(root, record.image_id)) for record in records] == [image.size for image in cubv2]
    assert len(list(root.glob("cubv2/*/*"))) == 5
    assert not list(root.glob("*.partial"))
    assert "    val 5 images, not the published 1,000\n" in capsys.readouterr().out
    prepare(built=built)  # and it stays
    assert "    val 5 images" in capsys.readouterr().out


def test_cubv2_needs_images_and_metadata(prepare, cubv2, tmp_path):
    with pytest.raises(UserError, match="CUBV2 needs both"):
        prepare("--cubv2", "CUBV2.tar")
    assert not (tmp_path / "data").exists()


def test_the_released_boxes_are_a_trap(prepare, cubv2, tmp_path, make):
    (tmp_path / "release").mkdir()
    (tmp_path / "release/CUBV2_boxes.txt").write_text("image_id,x0,y0,x1,y1\n11789,176,136,283,155")
    built = make("cub200")
    for given in ("release", "release/CUBV2_boxes.txt"):
        with pytest.raises(UserError, match=r"CUBV2_boxes\.txt will not do: it is headed x0,y0,x1,y1 and holds x, y"):
            prepare("--cubv2", "CUBV2.tar", "--cubv2-metadata", given, built=built)


def change_line(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("image_sizes.txt", "100.jpg,6,6", "100.jpg,6,7", r"'002.*100\.jpg' is \(6, 6\) pixels.*say \(6, 7\)"),
        ("class_labels.txt", "100.jpg,1", "100.jpg,2", "'002.*100.jpg' has the label 2, which is not its class"),
        ("class_labels.txt", "100.jpg,1", "100.jpg", r"class_labels\.txt, line 2: an id with 1 whole numbers"),
        ("class_labels.txt", "100.jpg,1", "101.jpg,1", r"'002.*10[01]\.jpg' is in this file or in image_ids\.txt"),
        ("localization.txt", "002.Laysan_Albatross/100.jpg", f"{FOLDERS[0]}/000.jpg", r"line 2: .*each id once"),
        ("localization.txt", "100.jpg,1,0", "100.jpg,-1,0", r"localization\.txt, line 2: an id with 4 whole numbers"),
    ],
)
def test_wrong_metadata_of_cubv2_are_refused(prepare, cubv2, tmp_path, name, old, new, message):
    change_line(tmp_path / "clone/metadata/CUB/val" / name, old, new)
    with pytest.raises(UserError, match=message):
        prepare("--cubv2", "CUBV2.tar", "--cubv2-metadata", "clone")
    assert not (tmp_path / "data/cub200/metadata/val").exists()
    assert not (tmp_path / "data/cub200/cubv2").exists()


def test_cubs_own_images_are_not_cubv2(prepare, cubv2, tmp_path):
    for name in FILES:
        path = tmp_path / "clone/metadata/CUB/val" / name
        path.write_text(path.read_text().replace("/000.jpg", "/Black_footed_Albatross_0001.jpg"))
    with pytest.raises(UserError, match=r"_0001\.jpg' is one of CUB's own images"):
        prepare("--cubv2", "CUBV2.tar", "--cubv2-metadata", "clone")


def test_a_missing_image_of_cubv2_is_named_and_the_next_run_goes_on(prepare, make, cubv2, tmp_path):
    built = make("cub200")
    write_tar(tmp_path / "less.tar", {image.image_id: picture((9, 9, 9), image.size[0]) for image in cubv2[:4]})
    with pytest.raises(UserError, match=r"less\.tar: 1 of CUBV2's 5 images are not in it: 002.*400\.jpg"):
        prepare("--cubv2", "less.tar", "--cubv2-metadata", "clone", built=built)
    with pytest.raises(UserError, match=r"more\.tar: no such file"):
        prepare("--cubv2", "more.tar", "--cubv2-metadata", "clone", built=built)
    prepare("--cubv2", "CUBV2.tar", "--cubv2-metadata", "clone", built=built)
    assert len(list((tmp_path / "data/cub200").glob("cubv2/*/*"))) == 5


def test_a_tar_with_a_folder_around_the_classes_and_a_run_that_was_interrupted(prepare, make, cubv2, tmp_path):
    write_tar(tmp_path / "top.tar", {f"CUBV2/{each.image_id}": picture((9, 9, 9), each.size[0]) for each in cubv2})
    built = make("cub200")
    prepare("--cubv2", "top.tar", "--cubv2-metadata", "clone", built=built)
    root = tmp_path / "data/cub200"
    whole = {path.name: path.read_text() for path in (root / "metadata/val").iterdir()}
    # As if it had been killed between the images and the metadata, and while it wrote these.
    (root / "metadata/val").rename(root / "metadata/val.partial")
    (root / "metadata/val.partial/.image_ids.tmp.txt").write_text("half")
    prepare("--cubv2", "top.tar", "--cubv2-metadata", "clone", built=built)
    assert {path.name: path.read_text() for path in (root / "metadata/val").iterdir()} == whole
    assert sorted(path.name for path in root.iterdir()) == ["cubv2", "dataset.json", "metadata", "train", "val"]
    assert sorted(path.name for path in (root / "metadata").iterdir()) == ["test", "train", "val"]
    assert len(list(root.glob("cubv2/*/*"))) == 5


def test_a_published_class_has_three_to_six_images(cubv2, monkeypatch, tmp_path):
    digest = boxes_digest(read_split(tmp_path / "clone/metadata/CUB/val"))[:16]
    monkeypatch.setitem(localisation.PUBLISHED, "val", (5, digest))
    with pytest.raises(UserError, match="1 to 2 images a class, and CUBV2 has 3 to 6"):
        read_cubv2(tmp_path / "clone")
