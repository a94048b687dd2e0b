"""Collecting what is wrong with a data set: everything is counted, the first few of each kind are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pretrain.console import UserError, warn

NAMED = 3  # of each kind
RARE = 1000  # one in so many is taken for an oddity of the real data


@dataclass(frozen=True)
class Held:
    """What a set holds.

    Attributes:
        pictures: Their number.
        used: The number of those with an object.
        objects: Their number, crowds and difficult ones included.
    """

    pictures: int
    used: int
    objects: int


@dataclass(frozen=True)
class Problem:
    """A kind of problem.

    Attributes:
        what: What is wrong, e.g. "box of no width or height".
        remedy: What to do about it.
    """

    what: str
    remedy: str


@dataclass
class Findings:
    """The problems of one folder or annotation file.

    An oddity is what the real sets are known, or may be suspected, to hold now and then, and what both frameworks
    cope with. Up to one in a thousand objects oddities are a warning, more of them an error: then it is no slip
    but another format, for instance corners in place of width and height.

    Attributes:
        place: The folder or file, for the heading.
    """

    place: str
    errors: Counter[Problem] = field(default_factory=Counter)
    oddities: Counter[Problem] = field(default_factory=Counter)
    warnings: Counter[Problem] = field(default_factory=Counter)
    _named: dict[Problem, list[str]] = field(default_factory=dict)

    def error(self, problem: Problem, where: str) -> None:
        """Count what makes the set unfit; `where` names the file and the entry, and says what stands there."""
        self._count(self.errors, problem, where)

    def oddity(self, problem: Problem, where: str) -> None:
        """Count an oddity; `settle` decides what it is."""
        self._count(self.oddities, problem, where)

    def warning(self, problem: Problem, where: str) -> None:
        """Count what is worth knowing."""
        self._count(self.warnings, problem, where)

    def settle(self, objects: int) -> None:
        """Decide, once and for a set of so many objects, whether its oddities are warnings or errors."""
        for problem, count in self.oddities.items():
            (self.warnings if count * RARE <= objects else self.errors)[problem] += count

    def first_error(self) -> str:
        """Return the first error in one line, and how many there are; "" for none."""
        if not self.errors:
            return ""
        problem, total = next(iter(self.errors)), sum(self.errors.values())
        number = "" if total == 1 else f", the first of {total:,} problems"
        return f"{self._named[problem][0]}: {problem.what}{number}; {problem.remedy}"

    def report(self, counted: Counter[Problem]) -> list[str]:
        """Return one line for each kind of problem, with its number and its remedy, and below it the first few."""
        lines = []
        for problem, count in counted.items():
            lines.append(f"  {problem.what} ({count:,}); {problem.remedy}")
            lines += [f"    {where}" for where in self._named[problem]]
            lines += ["    ..."] if count > NAMED else []
        return lines

    def _count(self, counted: Counter[Problem], problem: Problem, where: str) -> None:
        counted[problem] += 1
        named = self._named.setdefault(problem, [])
        if len(named) < NAMED:
            named.append(where)


def conclude(findings: Iterable[Findings], advice: str) -> None:
    """Print the warnings, then refuse what has errors.

    Args:
        findings: Settled ones.
        advice: Last line of the message.

    Raises:
        UserError: There are errors. The message names the place and counts them, then lists them by kind.
    """
    lines: list[str] = []
    for found in findings:
        if found.warnings:
            warn("\n".join([f"{found.place}: accepted, but worth knowing", *found.report(found.warnings)]))
        if found.errors:
            total = sum(found.errors.values())
            lines.append(f"{found.place}: {total:,} {'problem' if total == 1 else 'problems'}")
            lines += found.report(found.errors)
    if lines:
        raise UserError("\n".join([*lines, advice]))
