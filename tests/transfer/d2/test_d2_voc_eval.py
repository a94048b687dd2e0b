"""VOC's AP: against Detectron2's own evaluator on all that makes it hard, and against an AP worked out by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrain.console import UserError
from transfer.compat import prepare_detectron2

prepare_detectron2()

from detectron2.data import MetadataCatalog  # noqa: E402
from detectron2.evaluation import PascalVOCDetectionEvaluator  # noqa: E402
from detectron2.evaluation.pascal_voc_evaluation import voc_eval  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402

from transfer.d2.evaluation import VocEvaluator  # noqa: E402

Box = tuple[float, float, float, float]
OBJECT = """<object><name>{}</name><pose>Left</pose><truncated>0</truncated><difficult>{}</difficult>
<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


class Tree:
    """A VOC tree without pictures, registered as `name`; `add` fills it."""

    def __init__(self, root: Path, classes: tuple[str, ...], year: int) -> None:
        self.root, self.classes, self.year, self.name = root, classes, year, f"voc_of_{root.name}"
        self.found: list[tuple[dict[str, str], dict[str, Instances]]] = []
        self.listing = root / "ImageSets" / "Main" / "test.txt"
        self.listing.parent.mkdir(parents=True)
        (root / "Annotations").mkdir()
        metadata = {"dirname": str(root), "split": "test", "year": year, "thing_classes": list(classes)}
        MetadataCatalog.get(self.name).set(**metadata)

    def add(self, objects: list[tuple[str, int, Box]], found: list[tuple[str, float, Box]]) -> str:
        """Add an image: (class, difficult, box) of its objects, (class, score, box) of the detections; return its name.

        Boxes are xmin, ymin, xmax, ymax as VOC has them, counted from 1, the last pixel included.
        """
        name = f"{len(self.found):06d}"
        text = "".join(OBJECT.format(label, difficult, *map(int, box)) for label, difficult, box in objects)
        (self.root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
        with self.listing.open("a") as file:
            file.write(f"{name}\n")
        instances = Instances((500, 500))
        boxes = [[box[0] - 1, box[1] - 1, *box[2:]] for _, _, box in found]  # as Detectron2 counts
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        instances.scores = torch.tensor([score for _, score, _ in found])
        instances.pred_classes = torch.tensor([self.classes.index(label) for label, _, _ in found], dtype=torch.long)
        self.found.append(({"image_id": name}, {"instances": instances}))
        return name

    def evaluated(self, kind: type[PascalVOCDetectionEvaluator]) -> dict[str, Any]:
        evaluator = kind(self.name)
        evaluator.reset()
        for picture, detections in self.found:
            evaluator.process([picture], [detections])
        self.predictions = copy.deepcopy(evaluator._predictions)
        results: dict[str, Any] = evaluator.evaluate()["bbox"]
        return results


@pytest.fixture
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tree]:
    classes, year = getattr(request, "param", (("cat", "dog"), 2007))
    tree = Tree(tmp_path, classes, year)
    yield tree
    MetadataCatalog.remove(tree.name)


def test_eleven_points_by_hand(tree: Tree) -> None:
    """Four cats and a difficult one. By falling score: found; the same again; the difficult one; IoU 0.7; 0.5; found.

    At IoU 0.5 right, wrong, neither, right, wrong, right: precision 1 up to recall 1/4, 2/3 up to 1/2, 3/5 up to 3/4:
    three, three and two of the eleven points. At 0.75 the box at 0.7 is wrong too: 1 up to 1/4, 2/5 up to 1/2.
    """
    cat = (11, 11, 50, 50)  # 40 x 40 pixels
    tree.add([("cat", 0, cat)], [("cat", 0.9, cat), ("cat", 0.8, cat)])
    tree.add([("cat", 1, cat)], [("cat", 0.7, cat)])
    tree.add([("cat", 0, cat)], [("cat", 0.6, (11, 11, 50, 38))])
    tree.add([("cat", 0, cat)], [("cat", 0.5, (11, 11, 50, 30))])  # IoU 0.5 is not above 0.5
    tree.add([("cat", 0, cat)], [("cat", 0.4, cat)])
    ours = tree.evaluated(VocEvaluator)
    assert ours["AP50-cat"] == pytest.approx(100 * (3 + 3 * 2 / 3 + 2 * 3 / 5) / 11)
    assert ours["AP75"] == pytest.approx(100 * (3 + 3 * 2 / 5) / 11 / 2)  # no dog: 0, as Detectron2 has it
    assert ours["AP50-dog"] == 0
    assert {type(value) for value in ours.values()} == {float}


def fill(tree: Tree, rng: np.random.Generator, absent: tuple[str, ...], unfound: tuple[str, ...]) -> None:
    """Add 80 images: difficult objects, detections twice over, many equal scores, boxes at the very threshold."""
    there = [name for name in tree.classes if name not in absent]
    shown = [name for name in tree.classes if name not in unfound]
    for _ in range(80):
        objects, found = [], []
        for _ in range(rng.integers(0, 6)):
            x, y, width, height = rng.integers(1, 200, 4)
            objects.append((str(rng.choice(there)), int(rng.random() < 0.25), (x, y, x + width, y + height)))
        for label, _, box in objects * 3:
            moved = np.array(box) + rng.normal(0, 10 * rng.random(), 4) * (rng.random() < 0.8)
            label = label if rng.random() < 0.8 and label in shown else str(rng.choice(shown))
            found.append((label, round(float(rng.random()), 1), tuple(moved)))
            if rng.random() < 0.2:
                found.append(found[-1])
        tree.add(objects, found)


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # Detectron2, for a class without an object
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("tree", "absent", "unfound"),
    [
        ((("cat", "dog", "cow", "bus", "car"), 2007), ("cow",), ("bus",)),
        ((("cat", "dog", "cow", "bus", "car"), 2012), (), ("bus",)),
    ],
    indirect=["tree"],
)
def test_equals_detectron2_to_the_last_bit(
    tree: Tree, seed: int, absent: tuple[str, ...], unfound: tuple[str, ...], tmp_path: Path
) -> None:
    fill(tree, np.random.default_rng(seed), absent, unfound)
    theirs, ours = tree.evaluated(PascalVOCDetectionEvaluator), tree.evaluated(VocEvaluator)
    assert {name: ours[name] for name in theirs} == theirs
    assert 20 < ours["AP50"] < 90
    for class_id, name in enumerate(tree.classes):
        (tmp_path / f"{name}.txt").write_text("\n".join(tree.predictions[class_id]))
        places = (f"{tmp_path}/{{}}.txt", f"{tmp_path}/Annotations/{{}}.xml", str(tree.listing))
        assert ours[f"AP50-{name}"] == 100 * voc_eval(*places, name, 0.5, tree.year == 2007)[2]


def test_no_detection_at_all_is_zero(tree: Tree) -> None:
    tree.add([("cat", 0, (1, 1, 9, 9))], [])
    assert set(tree.evaluated(VocEvaluator).values()) == {0.0}


def test_a_detection_on_an_unknown_image_is_one_line(tree: Tree) -> None:
    tree.add([], [("cat", 0.5, (1, 1, 9, 9))])
    tree.listing.write_text("000007\n")
    (tree.root / "Annotations" / "000007.xml").write_text("<annotation></annotation>")
    with pytest.raises(UserError, match=r"Main/test\.txt: names no image 000000, for which there are detections; eval"):
        tree.evaluated(VocEvaluator)


@pytest.mark.parametrize(
    "text", ["<annotation><object><name>cat</name></object></annotation>", "<annotation>", "", None]
)
def test_an_annotation_that_cannot_be_read_is_named(tree: Tree, text: str | None) -> None:
    path = tree.root / "Annotations" / f"{tree.add([], [])}.xml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(
        UserError, match=r"Annotations/000000\.xml: no VOC annotation that can be evaluated on \(.*need"
    ):
        tree.evaluated(VocEvaluator)
