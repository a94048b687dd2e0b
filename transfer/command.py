"""The command line shared by the converters, and what it prints."""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from pretrain.console import UserError, first_few, progress
from transfer.architectures import ARCHITECTURES
from transfer.convert import HEADS, Converted, convert, with_classifier
from transfer.files import FORMATS, config_file, out_file, save, save_export
from transfer.layouts import Source, read_source
from transfer.verify import Verification, verify

NAMES = {"detectron2": "Detectron2", "mmdet": "MMDetection", "torchvision": "torchvision", "timm": "timm"}


def convert_command(target: str, description: str = "") -> None:
    """Parse the command line, convert, verify, write the files, and print both tables.

    Raises:
        UserError: The conversion is not exact. Nothing is written then.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source(parser)
    parser.add_argument("out", type=Path, help=f"OUT.pth, or another of {', '.join(FORMATS)}; its card goes beside it")
    parser.add_argument("--arch", choices=ARCHITECTURES, help="architecture (default: told from the tensors)")
    parser.add_argument("--head", choices=HEADS, help="detector the names are for (default: c4, for Swin fpn)")
    args = parser.parse_args()

    out = out_file(args.out, target)
    _keep_apart(args.checkpoint, out)
    source = read_source(args.checkpoint, args.arch, args.branch, args.trust)
    converted = convert(source, target, head=args.head)
    verification = report(source, converted, args.no_verify)
    path = save(converted, out, asdict(verification) if verification else None)
    config = config_file(path, target)
    companions = ", ".join([path.with_suffix(".json").name, *([config.name] if config else [])])
    Console(highlight=False, soft_wrap=True).print(f"{path} and {companions} written")


def convert_back_command(description: str) -> None:
    """Parse the command line, bring a detector's backbone back to a classification network, prove it, and write it.

    Raises:
        UserError: The conversion is not exact. Nothing is written then.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source(parser)
    parser.add_argument("out", type=Path, help="OUT.safetensors: an exported backbone; OUT.pth: torchvision's names")
    parser.add_argument("--classifier", type=Path, help="checkpoint whose classifier goes along: the start's")
    args = parser.parse_args()

    if args.out.suffix not in (".safetensors", ".pth"):
        raise UserError(f"{args.out}: it ends in .safetensors or .pth")
    _keep_apart(args.checkpoint, args.out)
    source = read_source(args.checkpoint, branch=args.branch, trust=args.trust)
    if args.classifier:
        source = with_classifier(source, read_source(args.classifier, trust=args.trust))
    exported = args.out.suffix == ".safetensors"
    converted = convert(source, "timm" if exported else "torchvision")
    verification = report(source, converted, args.no_verify)
    if exported:
        path = save_export(converted, args.out)
    else:
        path = save(converted, args.out, asdict(verification) if verification else None)
    Console(highlight=False, soft_wrap=True).print(f"{path} and {path.with_suffix('.json').name} written")


def _keep_apart(checkpoint: Path, out: Path) -> None:
    """Raise a UserError where the files to be written would replace the checkpoint, or come to stand for its card."""
    if checkpoint.with_suffix("").resolve() == out.with_suffix("").resolve():
        card = out.with_suffix(".json")
        raise UserError(f"{out}: {card.name} would pass for the card of {checkpoint.name}; choose another name")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is converted."""
    parser.add_argument("checkpoint", type=Path, help="exported backbone (.safetensors), torch checkpoint, or .pkl")
    parser.add_argument("--branch", choices=("teacher", "student"), help="which network, where there are two")
    parser.add_argument("--trust", action="store_true", help="let code in the checkpoint run; only for your own files")
    parser.add_argument("--no-verify", action="store_true", help="do not run the proof of parity")


def report(source: Source, converted: Converted, no_verify: bool) -> Verification | None:
    """Print what became of the tensors, run the proof with a bar, and print its outcome.

    Raises:
        UserError: The target does not compute the same as the source.
    """
    console = Console(highlight=False, soft_wrap=True)
    print_coverage(converted, console)
    if no_verify:
        return None
    name = NAMES[converted.target]
    with progress(f"proof of parity with {name}", 1) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the frameworks, about their own use of torch
        verification = verify(source, converted, converted.target)
        advance()
    print_parity(verification, converted.target, console)
    if not verification.passed:
        worst = max(verification.max_abs_diff, key=lambda stage: verification.max_abs_diff[stage])
        raise UserError(
            f"{source.origin}: {name} does not compute the same (largest difference at {worst}); nothing was written"
        )
    return verification


def print_coverage(converted: Converted, console: Console) -> None:
    """Print what became of every tensor."""
    report, card = converted.report, converted.card
    table = Table("tensors", Column("number", justify="right"), "which")
    prefixes = sorted({".".join(name.split(".")[:2]) for name in report.loaded.values()})
    table.add_row("loaded", str(len(report.loaded)), first_few(prefixes, 8))
    table.add_row("left over", str(len(report.left_over)), first_few(report.left_over) or "-")
    table.add_row("missing", str(len(report.missing)), "BatchNorm counters, without effect" if report.missing else "-")
    if report.other_parts:
        others = [f"{prefix}* ({number})" for prefix, number in Counter(report.other_parts).most_common()]
        table.add_row("not this network", str(sum(report.other_parts.values())), first_few(others))
    known = "from its card" if report.preprocessing_known else "ASSUMED, no card came with it"
    detector = f", {converted.head}" if converted.target in ("detectron2", "mmdet") else ""
    console.print(f"{converted.source}: {card.arch}, {report.layout}; for {NAMES[converted.target]}{detector}")
    console.print(f"{card.channel_order}, mean {list(card.mean)}, std {list(card.std)} on [0, 1]: {known}")
    for note in report.notes:
        console.print(note)
    console.print(table)


def print_parity(verification: Verification, target: str, console: Console) -> None:
    """Print the largest absolute difference at every stage."""
    table = Table("stage", Column("max abs difference", justify="right"))
    for stage, difference in verification.max_abs_diff.items():
        table.add_row(stage, f"{difference:g}" if difference else "0")
    exact = "equal but for the order of sums" if verification.tolerance else "exact"
    table.add_row(exact, "yes" if verification.passed else "NO", style="bold")
    console.print(f"The same picture through the source network and through {NAMES[target]}:")
    console.print(table)
