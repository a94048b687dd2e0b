"""What tools/prepare_voc.py and tools/prepare_coco.py do: unpack, check, and say what there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pretrain.archives.sources import size_text
from pretrain.console import UserError, warn
from pretrain.files import write_json
from transfer.datasets import NAMES, UNPACKING, VERIFIED, coco_annotations, coco_images, data_root, voc_folder
from transfer.prepare import coco, voc
from transfer.prepare.findings import Findings, Held, Problem, conclude
from transfer.prepare.official import COCO, VOC, Family
from transfer.prepare.unpack import gather, unpack

NO_ANNOTATIONS = Problem(
    "pictures without their annotation file", "give annotations_trainval2017.zip to this command, or remove them"
)


def prepare_voc(archives: Sequence[Path], out: Path | None, download: Path | None, subset: bool) -> None:
    """Unpack the VOC archives that are given, check all of VOC that lies there, and print what it is.

    Args:
        archives: Official archives.
        out: The folder of the data sets; see `transfer.datasets.data_root` for None.
        download: Folder that gets the archives not given, unless they are in it.
        subset: Whether it is meant to be another set in the same layout.

    Raises:
        UserError: An archive or the tree is not as it should be, or nothing is there.
    """
    root = _unpacked(VOC, archives, out, download, subset)
    held: dict[str, Held] = {}
    findings = []
    for year in voc.SPLITS:
        folder = voc_folder(root, year)
        if voc.read_lists(folder, year):
            sets, found = voc.check_year(folder, year, subset)
            held |= sets
            findings.append(found)
    _conclude(VOC, root, held, findings)


def prepare_coco(archives: Sequence[Path], out: Path | None, download: Path | None, subset: bool) -> None:
    """Do the same for COCO, see `prepare_voc`; what was found is noted in coco/verified.json for later runs."""
    root = _unpacked(COCO, archives, out, download, subset)
    held: dict[str, Held] = {}
    findings = []
    card = {}
    for split in ("train", "val"):
        name, annotations, images = f"coco_2017_{split}", coco_annotations(root, split), coco_images(root, split)
        if not images.is_dir():
            continue
        if annotations.is_file():
            held[name], found = coco.check_split(annotations, images, name, subset)
            counts = {"pictures": held[name].pictures, "objects": held[name].objects}
            card[name] = {**counts, "annotation_bytes": annotations.stat().st_size}
        else:
            found = Findings(str(images))
            found.error(NO_ANNOTATIONS, f"{annotations} is not there")
        findings.append(found)
    _conclude(COCO, root, held, findings)
    try:
        write_json(root / COCO.folder / VERIFIED, card)
    except OSError as error:
        warn(f"{root / COCO.folder / VERIFIED}: not written ({error.strerror}); a later run cannot compare with it")


def _unpacked(family: Family, archives: Sequence[Path], out: Path | None, download: Path | None, subset: bool) -> Path:
    """Unpack what is given and return the folder of the data sets."""
    root = data_root(out)
    if files := gather(family, archives, download):
        unpack(family, files, root, subset)
    return root


def _conclude(family: Family, root: Path, held: dict[str, Held], findings: list[Findings]) -> None:
    """Refuse what is wrong, or print what there is and what is not."""
    if not findings:
        raise UserError(_nothing(family, root))
    conclude(findings, "\n".join(["the official archives:", *(f"  {archive.url}" for archive in family.archives)]))
    (root / family.folder / UNPACKING).unlink(missing_ok=True)  # whole now, whoever unpacked the rest
    print(f"{family.title} is in order: {root / family.folder}")
    missing = [name for name in NAMES if NAMES[name][0] == family.kind and name not in held]
    for name, counts in held.items():
        bare = f", {counts.pictures - counts.used:,} of them without any" if counts.used < counts.pictures else ""
        print(f"  {name:18} {counts.pictures:8,} pictures with {counts.objects:8,} objects{bare}")
    for name in missing:
        print(f"  {name:18} not there")
    for archive in family.archives:
        if archive.role in missing:
            print(f"    {archive.name}, {size_text(archive.size)}: {archive.url}")
    print(f"  next: {family.train} --weights OUT.pth --data-root {root}")


def _nothing(family: Family, root: Path) -> str:
    lines = [f"{family.title}: nothing of it is in {root}", "expected:"]
    lines += [f"  {root}/{line}" if not line.startswith(" ") else f"  {line}" for line in family.expected]
    lines.append("it is made from:")
    for archive in family.archives:
        lines += [f"  {archive.name}  {size_text(archive.size)}, {archive.checksum}", f"    {archive.url}"]
    lines += [
        f"then:  {family.command} ARCHIVE ... --out {root}   (or --download DIR, which fetches them)",
        f"the small semi-synthetic demo:  python tools/prepare_demo.py --out {root}",
    ]
    return "\n".join(lines)
