"""The demo read back by the loaders that read the real data sets, and compared with the scenes it was made from."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy.ndimage import binary_fill_holes
from torchvision.datasets import CocoDetection, ImageFolder, VOCDetection

from pretrain.data.demo import scene
from pretrain.data.demo.drawings import BIRDS, CLASSES, VOC_CLASSES
from pretrain.data.demo.layouts import coco_annotation, link_or_copy, polygons
from pretrain.data.demo.scenes import SceneObject
from pretrain.data.demo.settings import DemoSettings
from wsol.metadata import read_classes, read_cub, read_metadata

SEED = 7  # of the fixture `demo`


def voc_scene(name: str, index: int, settings: DemoSettings) -> Any:
    return scene(name, index, SEED, settings, VOC_CLASSES[index % 20])


@pytest.mark.parametrize("split", ["train", "val"])
def test_image_folder_reads_the_classes(demo: Path, split: str) -> None:
    folder = ImageFolder(str(demo / "classification" / split))
    assert len(folder.classes) == len(folder) == 24
    assert set(BIRDS) <= set(folder.classes) <= set(CLASSES)
    assert {image.size for image, _ in folder} == {(72, 72)}


@pytest.mark.parametrize(
    ("year", "image_set", "number"),
    [
        ("2007", "train", 2),
        ("2007", "val", 2),
        ("2007", "trainval", 4),
        ("2007", "test", 20),
        ("2012", "train", 2),
        ("2012", "val", 1),
        ("2012", "trainval", 3),
    ],
)
def test_torchvision_reads_voc(demo: Path, year: str, image_set: str, number: int) -> None:
    dataset = VOCDetection(str(demo), year=year, image_set=image_set)
    assert len(dataset) == number
    for image, target in dataset:
        annotation = target["annotation"]
        assert annotation["folder"] == f"VOC{year}"
        assert image.size == (int(annotation["size"]["width"]), int(annotation["size"]["height"]))
        for thing in annotation["object"]:
            box = {edge: int(value) for edge, value in thing["bndbox"].items()}
            assert 1 <= box["xmin"] <= box["xmax"] <= image.size[0]
            assert 1 <= box["ymin"] <= box["ymax"] <= image.size[1]
            assert thing["name"] in VOC_CLASSES
            assert ("occluded" in thing) == (year == "2012")


def test_voc_coordinates_are_the_scene_s_first_and_last_pixel_counted_from_one(
    demo: Path, tiny_settings: DemoSettings
) -> None:
    for index in range(20):
        made = voc_scene("voc2007/test", index, tiny_settings)
        name = f"{4 + index + 1:06d}"  # after the four of trainval
        tree = ElementTree.parse(demo / "VOCdevkit" / "VOC2007" / "Annotations" / f"{name}.xml")
        read = [
            (
                thing.findtext("name"),
                *(int(thing.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")),
            )
            for thing in tree.findall("object")
        ]
        expected = []
        for thing in made.objects:
            ys, xs = np.nonzero(thing.mask)
            expected.append((thing.label, xs.min() + 1, ys.min() + 1, xs.max() + 1, ys.max() + 1))
        assert read == expected
        with Image.open(demo / "VOCdevkit" / "VOC2007" / "JPEGImages" / f"{name}.jpg") as image:
            # JPEG changes a pixel by a few levels; another scene would differ by a whole lot
            error = np.abs(np.asarray(image, dtype=float) - np.asarray(made.image, dtype=float)).mean()
        assert error < 8


def test_detectron2_reads_voc(demo: Path, tiny_settings: DemoSettings) -> None:
    pytest.importorskip("detectron2", reason="Detectron2 is not installed: python tools/install_detectron2")
    from transfer.compat import prepare_detectron2

    prepare_detectron2()
    from detectron2.data.datasets.pascal_voc import CLASS_NAMES, load_voc_instances

    assert tuple(CLASS_NAMES) == VOC_CLASSES
    dicts = load_voc_instances(str(demo / "VOCdevkit" / "VOC2007"), "test", CLASS_NAMES)
    assert [record["image_id"] for record in dicts] == [f"{number:06d}" for number in range(5, 25)]
    for index, record in enumerate(dicts):
        made = voc_scene("voc2007/test", index, tiny_settings)
        assert (record["width"], record["height"]) == made.image.size
        # Detectron2 subtracts one from the near corner only, which gives half-open boxes from 0
        assert [tuple(thing["bbox"]) for thing in record["annotations"]] == [thing.box for thing in made.objects]


def test_mmdetection_reads_voc_and_coco(demo: Path) -> None:
    from transfer.compat import prepare_mmcv

    prepare_mmcv()
    from mmdet.datasets import CocoDataset, VOCDataset
    from mmdet.registry import DATASETS

    assert set(VOCDataset.METAINFO["classes"]) == set(VOC_CLASSES)
    assert DATASETS.get("CocoDataset") is CocoDataset
    root = demo / "VOCdevkit"
    voc = VOCDataset(
        data_root=str(root),
        ann_file="VOC2007/ImageSets/Main/test.txt",
        data_prefix={"sub_data_root": "VOC2007/"},
        pipeline=[],
        test_mode=True,
    )
    coco = CocoDataset(
        data_root=str(demo / "coco"),
        ann_file="annotations/instances_val2017.json",
        data_prefix={"img": "val2017/"},
        metainfo={"classes": VOC_CLASSES},
        pipeline=[],
        test_mode=True,
    )
    assert len(voc) == len(coco) == 20
    for index in range(20):
        from_voc, from_coco = voc.get_data_info(index), coco.get_data_info(index)
        names = [VOCDataset.METAINFO["classes"][thing["bbox_label"]] for thing in from_voc["instances"]]
        assert names == [VOC_CLASSES[thing["bbox_label"]] for thing in from_coco["instances"]]
        for one, other in zip(from_voc["instances"], from_coco["instances"]):
            # MMDetection subtracts one from both corners of VOC's boxes
            assert np.allclose(np.array(one["bbox"]) + [0, 0, 1, 1], other["bbox"])


@pytest.mark.parametrize(("split", "number", "first"), [("train", 7, 1), ("val", 20, 8)])
def test_pycocotools_reads_coco(demo: Path, tiny_settings: DemoSettings, split: str, number: int, first: int) -> None:
    coco = COCO(str(demo / "coco" / "annotations" / f"instances_{split}2017.json"))
    assert sorted(coco.imgs) == list(range(first, first + number))
    assert {category["id"]: category["name"] for category in coco.cats.values()} == dict(
        enumerate(VOC_CLASSES, start=1)
    )
    sources = [("voc2007/test", index) for index in range(20)]
    if split == "train":
        sources = [("voc2007/trainval", index) for index in range(4)] + [
            ("voc2012/trainval", index) for index in range(3)
        ]
    for image_id, (name, index) in enumerate(sources, start=first):
        made = voc_scene(name, index, tiny_settings)
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        assert [coco.cats[one["category_id"]]["name"] for one in annotations] == [one.label for one in made.objects]
        for annotation, thing in zip(annotations, made.objects):
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == thing.box
            assert annotation["iscrowd"] == 0
            drawn = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == drawn.sum()
            filled = binary_fill_holes(thing.mask)
            assert (drawn & filled).sum() / (drawn | filled).sum() > 0.85
    assert len({annotation["id"] for annotation in coco.anns.values()}) == len(coco.anns)


def test_coco_holds_the_pictures_of_voc(demo: Path) -> None:
    images = CocoDetection(
        str(demo / "coco" / "val2017"), str(demo / "coco" / "annotations" / "instances_val2017.json")
    )
    assert len(images) == 20
    for number, name in ((8, "VOC2007/JPEGImages/000005"), (27, "VOC2007/JPEGImages/000024")):
        copy = demo / "coco" / "val2017" / f"{number:012d}.jpg"
        assert copy.read_bytes() == (demo / "VOCdevkit" / f"{name}.jpg").read_bytes()
    first_2012 = demo / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2012_000001.jpg"
    assert (demo / "coco" / "train2017" / "000000000005.jpg").read_bytes() == first_2012.read_bytes()


def test_pictures_are_copied_where_links_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a.jpg").write_bytes(b"picture\xff\xd9")
    link_or_copy(tmp_path / "a.jpg", tmp_path / "b" / "c.jpg")
    assert (tmp_path / "b" / "c.jpg").read_bytes() == b"picture\xff\xd9"


def test_polygons_of_known_shapes() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:10, 3:15] = True
    mask[4:7, 6:9] = False  # a hole, to be filled
    mask[15:18, 20:29] = True
    mask[0, 0] = True  # a speck, to be left out
    outlines = polygons(mask)
    assert len(outlines) == 2
    thing = SceneObject("dog", (0, 0, 29, 18), mask, 1.0, False, False)
    annotation = coco_annotation(thing, 1, 1)
    assert annotation["category_id"] == 12  # dog is the twelfth of VOC's classes
    assert annotation["area"] == pytest.approx(8 * 12 + 3 * 9, abs=8)  # corners are cut off


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_wsolevaluation_metadata_give_the_scene_s_boxes(demo: Path, tiny_settings: DemoSettings, split: str) -> None:
    root = demo / "CUB_200_2011"
    records = read_metadata(root / "metadata" / split)
    assert [record.label for record in records] == list(range(22))
    for index, (record, bird) in enumerate(zip(records, sorted(BIRDS))):
        made = scene(f"cub/{split}", index, SEED, tiny_settings, bird)
        with Image.open(root / "images" / record.image_id) as image:
            assert image.size == record.size == made.image.size
        assert record.boxes.tolist() == [list(made.objects[0].box)]
        width, height = (record.boxes[0, 2:] - record.boxes[0, :2]) / min(record.size)
        assert 0.28 < max(width, height) <= 0.71
        text = (root / "metadata" / split / "image_sizes.txt").read_text(encoding="utf-8")
        assert not text.endswith("\n")
        assert "," in text.splitlines()[0]


def test_cub_files_agree_with_the_metadata_and_leave_val_out(demo: Path) -> None:
    root = demo / "CUB_200_2011"
    assert read_classes(root) == sorted(BIRDS)
    assert (root / "classes.txt").read_text(encoding="utf-8").splitlines()[6] == "7 007.duck"
    listed: set[str] = set()
    for split in ("train", "test"):
        from_tree, from_metadata = read_cub(root, split), read_metadata(root / "metadata" / split)
        assert len(from_tree) == len(from_metadata) == 22
        for one, other in zip(from_tree, from_metadata):
            assert (one.image_id, one.label, one.size) == (other.image_id, other.label, other.size)
            assert np.array_equal(one.boxes, other.boxes)
        listed |= {record.image_id for record in from_tree}
    val = {record.image_id for record in read_metadata(root / "metadata" / "val")}
    assert not val & listed
    assert {path.relative_to(root / "images").as_posix() for path in root.rglob("*.jpg")} == val | listed
    assert (root / "bounding_boxes.txt").read_text(encoding="utf-8").split()[1].endswith(".0")


def test_class_folders_of_cub_carry_the_names_of_the_classification_set(demo: Path) -> None:
    birds = {path.name.split(".", 1)[1] for path in (demo / "CUB_200_2011" / "images").iterdir()}
    assert birds <= {path.name for path in (demo / "classification" / "train").iterdir()}
    assert len(birds) == 22
