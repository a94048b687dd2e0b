"""What a config says beside what the weights and the protocol ask for; all that contradicts is told at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Column, Table

from pretrain.console import UserError

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Finding:
    """One setting, compared.

    Attributes:
        key: The config's key.
        wanted: What the weights or the protocol ask for.
        found: What the config says.
        problem: Why this cannot be trained, and the remedy; empty where nothing is wrong.
        departure: How this departs from the protocol where the command line asked for it; empty elsewhere.
    """

    key: str
    wanted: str
    found: str
    problem: str = ""
    departure: str = ""


def problems(found: Iterable[Finding], given: Mapping[str, str], path: object) -> list[str]:
    """Return a line for each finding that cannot be trained: where, key, both values, remedy."""
    return [
        f"{given.get(finding.key, path)}: {finding.key} is {finding.found}, {finding.problem}"
        for finding in found
        if finding.problem
    ]


def departures(found: Iterable[Finding]) -> list[str]:
    """Return a line for each departure from the protocol that the command line asked for."""
    return [f"{finding.key} is {finding.found}: {finding.departure}" for finding in found if finding.departure]


def refuse(lines: list[str]) -> None:
    """Raise one UserError for all lines; without any, return."""
    if len(lines) > 1:
        raise UserError("\n  ".join([f"{len(lines)} settings cannot be trained", *lines]))
    if lines:
        raise UserError(lines[0])


def as_table(found: Iterable[Finding], weights: bool) -> Table:
    """Return the findings as a table for the terminal.

    Args:
        found: What `findings` returned.
        weights: Whether there are weights; without any, the config is compared with the protocol alone.
    """
    sides = (Column(name, overflow="fold") for name in ("weights" if weights else "protocol", "config"))
    table = Table(Column("setting", no_wrap=True), *sides, Column("", no_wrap=True))
    for finding in found:
        verdict = "WRONG" if finding.problem else "departs" if finding.departure else "fits"
        table.add_row(finding.key, finding.wanted, finding.found, verdict, style="red" if finding.problem else None)
    return table


def same(found: Any, wanted: Any) -> bool:
    """Compare numbers within rounding (123.675 against 255 x 0.485), anything else exactly."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(abs(a - b) < 1e-3 for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)


def told(value: Any) -> str:
    return '""' if value == "" else str(value)
