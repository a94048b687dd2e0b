"""The command line that the prepare tools share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pretrain.archives.download import download
from pretrain.archives.reading import Source
from pretrain.archives.sources import find, missing_message
from pretrain.console import UserError
from pretrain.data.card import DataCard
from pretrain.data.prepare.arrange import DataSet, arrange, complete_card
from pretrain.data.prepare.subset import require_fraction


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return an empty parser that shows the description as it is."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_subset(command: argparse.ArgumentParser) -> None:
    """Add the arguments of a fraction."""
    command.add_argument("--fraction", type=float, default=1.0, metavar="F", help="share of each class (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="decides which images a fraction takes (%(default)s)")


def run(data_sets: Sequence[DataSet], description: str | None) -> None:
    """Parse the command line, arrange a data set and print what there is.

    Args:
        data_sets: Those to choose from.
        description: Of the tool.
    """
    prepare(data_sets, arguments(data_sets, description).parse_args())


def arguments(data_sets: Sequence[DataSet], description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `run`, to which a tool may add arguments of its own."""
    command = parser(description)
    if len(data_sets) > 1:
        command.add_argument("dataset", choices=[data_set.key for data_set in data_sets])
    archives = Path("data/archives")
    command.add_argument("--archives", type=Path, default=archives, metavar="DIR", help="with the files (%(default)s)")
    if not all(archive.login for data_set in data_sets for archive in data_set.archives):
        command.add_argument("--download", action="store_true", help="fetch the archives that are not there")
    command.add_argument("--extracted", type=Path, metavar="DIR", help="with the unpacked files, which are linked")
    command.add_argument("--out", type=Path, metavar="DIR", help="folder to write (data/<name>)")
    add_subset(command)
    return command


def prepare(data_sets: Sequence[DataSet], args: argparse.Namespace) -> tuple[Path, DataCard]:
    """Arrange the data set that was chosen, print what there is, and return its folder and card.

    Args:
        data_sets: Those to choose from.
        args: What the parser of `arguments` made of the command line.
    """
    data_set = next(each for each in data_sets if len(data_sets) == 1 or each.key == args.dataset)
    out = args.out or Path("data", data_set.key)
    require_fraction(args.fraction)
    card = complete_card(out, data_set, args.fraction, args.seed)
    state = "complete already"
    if card is None:
        card, state = arrange(data_set, find_or_fetch(data_set, args), out, args.fraction, args.seed), "arranged"
    print_summary(card, data_set, out, state)
    return out, card


def find_or_fetch(data_set: DataSet, args: argparse.Namespace) -> dict[str, Source]:
    """Return the data set's archives or their contents, by role; with --download, those that are missing are fetched.

    Raises:
        UserError: One is not there; the message lists all that are missing.
    """
    sources, missing = find(data_set.archives, args.archives, args.extracted)
    if missing:
        if not getattr(args, "download", False):
            raise UserError(missing_message(data_set.name, missing, args.archives, args.extracted, data_set.command))
        for archive in missing:
            download(archive, args.archives)
        sources, _ = find(data_set.archives, args.archives, args.extracted)
    return sources


def print_summary(card: DataCard, data_set: DataSet, out: Path, state: str) -> None:
    """Print what a prepared data set holds, and the command that trains on it."""
    part = "" if card.fraction == 1 else f" (fraction {card.fraction:g} of each class, seed {card.seed})"
    print(f"{card.name} {state}: {out}{part}")
    images = f"{card.images['train']:,} training and {card.images['val']:,} validation images"
    print(f"  {len(card.classes):,} classes, {images}")
    print(f"  train next: {train_command(data_set, out)}")


def train_command(data_set: DataSet, out: Path) -> str:
    """Return the command that trains on a data set in `out`, with the values that its config does not have."""
    config = Path(data_set.config)
    own = config.parent.name == data_set.key
    root = "" if own and out == Path("data", data_set.key) else f" data.root={out}"
    name = "" if own else f" name={data_set.key}/{config.stem}"
    options = " --cfg-options" if root or name else ""
    return f"tools/pretrain.sh {config}{options}{root}{name}"
