"""The command line shared by tools/convert_to_d2.py and tools/convert_to_mmdet.py, and what it prints."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import asdict

from rich.console import Console
from rich.table import Column, Table

from pretrain.console import UserError, progress
from transfer.architectures import RESNETS
from transfer.convert import HEADS, Converted, convert, save
from transfer.verify import Verification, verify

NAMES = {"detectron2": "Detectron2", "mmdet": "MMDetection"}


def convert_command(target: str, description: str = "") -> None:
    """Parse the command line, convert, verify, write OUT.pth and OUT.json, and print both tables.

    Raises:
        UserError: The conversion is not exact. Nothing is written then.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="exported backbone (.safetensors) or a torch checkpoint (.pth)")
    parser.add_argument("out", help="OUT.pth; OUT.json is written beside it")
    parser.add_argument("--arch", choices=RESNETS, help="architecture (default: told from the tensors)")
    parser.add_argument("--branch", choices=("teacher", "student"), help="which network, where there are two")
    parser.add_argument("--head", choices=HEADS, default="c4", help="detector the names are for (default %(default)s)")
    parser.add_argument("--no-verify", action="store_true", help="do not run the proof of parity")
    args = parser.parse_args()

    console = Console(highlight=False, soft_wrap=True)
    verification = None
    with progress(f"conversion to {NAMES[target]}", 1 if args.no_verify else 2) as advance:
        converted = convert(args.checkpoint, target, args.arch, args.branch, args.head)
        advance(note="names")
        if not args.no_verify:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the frameworks, about their own use of torch
                verification = verify(args.checkpoint, converted, target, branch=args.branch)
            advance(note="proof")
    print_coverage(converted, console)
    if verification:
        print_parity(verification, target, console)
        if not verification.passed:
            worst = max(verification.max_abs_diff, key=lambda stage: verification.max_abs_diff[stage])
            raise UserError(
                f"{args.checkpoint}: {NAMES[target]} does not compute the same (largest difference at {worst}); "
                "nothing was written"
            )
    path = save(converted, args.out, asdict(verification) if verification else None)
    console.print(f"{path} and {path.with_suffix('.json').name} written")


def print_coverage(converted: Converted, console: Console) -> None:
    """Print what became of every tensor."""
    report, card = converted.report, converted.card
    table = Table("tensors", Column("number", justify="right"), "which")
    prefixes = sorted({".".join(name.split(".")[:2]) for name in report.loaded.values()})
    table.add_row("loaded", str(len(report.loaded)), ", ".join(prefixes))
    table.add_row("left over", str(len(report.left_over)), ", ".join(report.left_over) or "-")
    table.add_row("missing", str(len(report.missing)), "BatchNorm counters, without effect" if report.missing else "-")
    if report.other_parts:
        others = ", ".join(f"{prefix}* ({number})" for prefix, number in report.other_parts.items())
        table.add_row("not this network", str(sum(report.other_parts.values())), others)
    known = "from its card" if report.preprocessing_known else "ASSUMED, no card came with it"
    console.print(f"{converted.source}: {card.arch}, {report.layout}; for {NAMES[converted.target]}, {converted.head}")
    console.print(f"{card.channel_order}, mean {list(card.mean)}, std {list(card.std)} on [0, 1]: {known}")
    console.print(table)


def print_parity(verification: Verification, target: str, console: Console) -> None:
    """Print the largest absolute difference at every stage."""
    table = Table("stage", Column("max abs difference", justify="right"))
    for stage, difference in verification.max_abs_diff.items():
        table.add_row(stage, f"{difference:g}" if difference else "0")
    table.add_row("exact", "yes" if verification.passed else "NO", style="bold")
    console.print(f"The same picture through the source network and through {NAMES[target]}:")
    console.print(table)
