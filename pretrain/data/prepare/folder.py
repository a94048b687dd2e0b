"""Any tree of image folders: given a card, split into train and val, or made smaller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pretrain.archives.reading import Source, basename, file_member, is_image
from pretrain.archives.sources import UNPACKED, Archive
from pretrain.console import UserError, warn
from pretrain.data.card import CARD, DataCard, check_against, read_data_card, write_data_card
from pretrain.data.prepare.arrange import DataSet, Image, arrange, complete_card
from pretrain.data.prepare.subset import SPLITS, Census, choose, require_fraction, some

COMMAND = "python tools/prepare_folder.py"
CONFIG = "configs/pretrain/imagenet/r18_100ep.py"
Tree = dict[str, dict[str, list[str]]]  # split -> class -> names of its images


def prepare(
    root: Path, out: Path | None, name: str | None, val_share: float | None, fraction: float, seed: int
) -> tuple[DataCard, DataSet, str]:
    """Describe the tree `root` as it is, or arrange it as `out`.

    Args:
        root, val_share, seed: See `read_tree`.
        out: Folder to write; None: `root` gets a card.
        name: Of the data set; None: that of the folder.
        fraction: Share of each class to take, in (0, 1].

    Returns:
        The card, the data set, and what was done.

    Raises:
        UserError: See `read_tree` and `arrange`.
    """
    require_fraction(fraction)
    if out is None and (val_share is not None or fraction != 1):
        raise UserError("--val-share and --fraction need --out DIR: the tree itself stays as it is")
    tree = read_tree(root, val_share, seed)
    data_set = describe(name or (out or root).resolve().name, root, tree)
    if out is None:
        return add_card(root, data_set.name, tree), data_set, "whole"
    if card := complete_card(out, data_set, fraction, seed):
        census = Census(data_set.name, data_set.classes, data_set.images, fraction, seed)
        for _ in data_set.read({}, census):  # it counts
            pass
        if card.images != census.taken():
            raise UserError(
                f"{out}: holds something else (images are {card.images} there and {census.taken()} here); delete it, "
                "or give another --out"
            )
        return card, data_set, "complete already"
    return arrange(data_set, {"images": Source(root)}, out, fraction, seed), data_set, "arranged"


def read_tree(root: Path, val_share: float | None = None, seed: int = 0) -> Tree:
    """List the images of a folder.

    Args:
        root: ROOT/{train,val}/<class>/ or, with `val_share`, ROOT/<class>/.
        val_share: Share of each class that becomes the validation images, in (0, 1), at least one of them; None: the
            tree is split already.
        seed: Decides which ones.

    Returns:
        Images by split and class.

    Raises:
        UserError: No such tree, a class without images or in one split only, or an empty file.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    if val_share is not None and not 0 < val_share < 1:
        raise UserError(f"--val-share is {val_share}, and a share between 0 and 1 is due, such as 0.1")
    split_already = _is_split(root)
    if split_already and val_share is not None:
        raise UserError(f"{root}: train/ and val/ are there already; leave out --val-share")
    if not split_already and val_share is not None and (root / "train").is_dir():
        raise UserError(f"{root}: train/ is there and val/ is not; to split it, give --extracted {root / 'train'}")
    if not split_already and val_share is None:
        raise UserError(f"{root}: no train/ and val/ there; give --val-share 0.1 to split <class>/ into both")
    if split_already:
        tree = {split: _images(root / split) for split in SPLITS}
    else:
        assert val_share is not None
        tree = _split(root, _images(root), val_share, seed)
    if odd := tree["train"].keys() ^ tree["val"].keys():
        raise UserError(f"{root}: classes that are not in both train/ and val/: {some(odd)}")
    return tree


def describe(name: str, root: Path, tree: Tree) -> DataSet:
    """Return the data set that a tree is."""

    def read(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
        for split, classes in tree.items():
            parent = root / split if _is_split(root) else root
            for label, names in classes.items():
                for name in sorted(census.add(split, label, names)):
                    yield Image(split, label, name, file_member(parent / label / name, f"{label}/{name}", root))

    counts = {split: sum(map(len, classes.values())) for split, classes in tree.items()}
    archive = Archive("images", root.name, None, url="", checksum=None)
    command = f"{COMMAND} --extracted {root}"
    return DataSet(name, name, (archive,), len(tree["train"]), counts, read, command, config=CONFIG)


def add_card(root: Path, name: str, tree: Tree) -> DataCard:
    """Write the card of a tree as it is; where there is one, compare with it.

    Raises:
        UserError: Folders and card disagree.
    """
    classes = {split: sorted(found) for split, found in tree.items()}
    counts = {split: sum(map(len, found.values())) for split, found in tree.items()}
    card = read_data_card(root)
    if card is not None:
        for split in SPLITS:
            advice = f"the command that made it; delete {CARD} and run {COMMAND} to describe what is there"
            check_against(card, root, split, classes[split], counts[split], advice)
        return card
    card = DataCard(name, classes["train"], counts, source={root.name: UNPACKED})
    write_data_card(root, card)
    return card


def _is_split(root: Path) -> bool:
    return all((root / split).is_dir() for split in SPLITS)


def _images(folder: Path) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {}
    broken: list[str] = []
    for label, members in Source(folder).classes():
        classes[label] = [basename(member.name) for member in members]
        broken += [member.name for member in members if not member.size]
    if not classes:
        raise UserError(f"{folder}: no folders of classes in it")
    if empty := [label for label, names in classes.items() if not names]:
        raise UserError(f"{folder}: {len(empty)} folders without an image: {some(empty)}; remove them")
    if broken:
        raise UserError(f"{folder}: {len(broken):,} files are empty: {some(broken)}; replace or remove them")
    others = [path.name for label in classes for path in (folder / label).iterdir() if not is_image(path.name)]
    if others:
        warn(f"{folder}: {len(others):,} entries are no images and are left out: {some(others)}")
    return classes


def _split(root: Path, classes: dict[str, list[str]], val_share: float, seed: int) -> Tree:
    if few := [label for label, names in classes.items() if len(names) < 2]:
        raise UserError(f"{root}: {len(few)} classes have one image, and a split needs two: {some(few)}")
    tree: Tree = {split: {} for split in SPLITS}
    for label, names in classes.items():
        count = min(max(1, round(val_share * len(names))), len(names) - 1)
        val = choose(names, count, seed, f"val/{label}")
        tree["train"][label] = [name for name in names if name not in val]
        tree["val"][label] = [name for name in names if name in val]
    return tree
