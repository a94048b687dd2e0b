"""Runs that differ by the seed alone, averaged, named, and compared with each other."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evidence.records import Record
from evidence.runs import BOOKKEEPING, flat
from transfer.summarize.statistics import LEVEL, Welch, holm, welch

NAMES = (
    *("AutoMix", "Vanilla", "MixUp", "CutMix", "ManifoldMix", "SaliencyMix", "AttentiveMix", "FMix", "ResizeMix"),
    *("PuzzleMix", "Co-Mixup", "SuperMix", "AlignMix", "TransMix", "AugMix"),
)
TITLES = {name.lower().replace("-", ""): name for name in NAMES}
DATA = "data.root"
SAY_IT_ALL = ("name", "method.preset")  # their values need no key beside them
NAMING_KEYS = 2  # settings that a label may quote; where it takes more, the folder tells the runs apart


@dataclass(frozen=True)
class Spread:
    """Figures of the same kind: their mean and sample standard deviation, NaN where there are too few."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Their sample standard deviation."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class Group:
    """Runs whose settings differ by the seed alone, each seed once; what decides no outcome may differ too.

    Attributes:
        label: Short, and no other group has it.
        records: In the order of the seeds; all of them finished, or one that is not.
    """

    label: str
    records: tuple[Record, ...]

    @property
    def method(self) -> str:
        """The runs' method."""
        return self.records[0].method

    @property
    def finished(self) -> bool:
        """Whether the runs have ended."""
        return self.records[0].finished

    @property
    def networks(self) -> list[str]:
        """The networks, the result first."""
        return self.records[0].networks

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the outcome besides the seed, by dotted key."""
        return {key: value for key, value in flat(self.records[0].settings).items() if key not in BOOKKEEPING}

    @property
    def top1(self) -> Spread:
        """Of the network that is the result."""
        return self.accuracy(self.records[0].branch, 1)

    def accuracy(self, network: str, k: int) -> Spread:
        """Return a network's top-k accuracy in percent."""
        return Spread(tuple(record.accuracy[f"{network}_top{k}"] for record in self.records))

    @property
    def seconds(self) -> float:
        """Mean time of training."""
        return float(np.mean([record.seconds for record in self.records]))

    @property
    def images_per_second(self) -> float:
        """Mean speed over the whole training; NaN where it is not known."""
        speeds = [record.images_per_second for record in self.records]
        return float(np.mean([math.nan if speed is None else speed for speed in speeds]))


@dataclass(frozen=True)
class Difference:
    """The top-1 accuracy of one group less the reference's.

    Attributes:
        group: The runs.
        points: Difference of the means.
        test: None with fewer than two seeds on either side.
        p_holm: p after Holm's correction over the tests of the comparison; NaN without a test.
        verdict: What may be said.
        other_settings: Keys, besides the method's, in which the two differ.
    """

    group: Group
    points: float
    test: Welch | None
    p_holm: float
    verdict: str
    other_settings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Groups that were trained on the same data.

    Attributes:
        data: Their data's root.
        reference: The vanilla group where there is just one, else the first.
        differences: Every other group against it.
    """

    data: str
    reference: Group
    differences: tuple[Difference, ...]

    @property
    def groups(self) -> list[Group]:
        """All of them, the reference first."""
        return [self.reference, *(difference.group for difference in self.differences)]


def title_of(method: str) -> str:
    """Return a method's name as people write it."""
    return TITLES.get(method, method)


def group_records(records: Sequence[Record]) -> list[Group]:
    """Sort the finished runs into groups, in the order of their first run; an unfinished one is a group by itself.

    A seed that was run twice with the same settings is no second trial: its second run is a group of its own.
    """
    members: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    times: Counter[tuple[str, int | None]] = Counter()
    for record in records:
        same = json.dumps([record.method, Group("", (record,)).settings], sort_keys=True)
        again = times[same, record.seed]
        times[same, record.seed] += record.finished
        members[(same, again) if record.finished else ("unfinished", record.folder)].append(record)
    groups = [Group("", tuple(sorted(of_one, key=lambda record: record.seed or 0))) for of_one in members.values()]
    labels = _labels(groups)
    return [Group(label, group.records) for label, group in zip(labels, groups, strict=True)]


def _labels(groups: Sequence[Group]) -> list[str]:
    """Name each group by its method, and where several have the same by the fewest settings that tell them apart."""
    labels = [title_of(group.method) for group in groups]
    for method in dict.fromkeys(labels):
        same = [i for i, other in enumerate(labels) if other == method]
        ended = [i for i in same if groups[i].finished]
        named = {i: {"name": groups[i].records[0].config} | groups[i].settings for i in ended}
        keys = _telling(list(named.values()))
        for i in same:
            if not groups[i].finished:
                words = [_folder_name(groups[i].records[0]), "unfinished"]
            elif keys is None:
                words = [_folder_name(groups[i].records[0])]
            else:
                words = [_quoted(key, named[i].get(key)) for key in keys]
            labels[i] = f"{method} ({', '.join(words)})" if words else method
    return [
        f"{label}, {group.records[0].folder}" if labels.count(label) > 1 else label
        for label, group in zip(labels, groups, strict=True)
    ]


def _folder_name(record: Record) -> str:
    """Return the name of the run's folder, or of the one above where that is named after the method."""
    folder = record.folder.resolve()
    return folder.parent.name if folder.name == record.method else folder.name


def _quoted(key: str, value: Any) -> str:
    """Return a setting as a label has it: "epochs 40", "backbone resnet18", "fast"."""
    if key in SAY_IT_ALL:
        return str(value)
    *rooms, last = key.split(".")
    return f"{rooms[-1] if last == 'name' and rooms else last} {value}"


def _telling(settings: Sequence[dict[str, Any]]) -> list[str] | None:
    """Return the fewest keys whose values differ between all of these; None where it takes too many."""
    chosen: list[str] = []
    varying = [*SAY_IT_ALL, *varying_keys(settings)]  # of keys that tell as many apart the first is taken
    while len(chosen) <= NAMING_KEYS:
        distinct = _distinct(settings, chosen)
        if distinct == len(settings):
            return chosen
        best = max(varying, key=lambda key: _distinct(settings, [*chosen, key]), default=None)
        if best is None or _distinct(settings, [*chosen, best]) == distinct:
            return None
        chosen.append(best)
    return None


def _distinct(settings: Sequence[dict[str, Any]], keys: Sequence[str]) -> int:
    return len({json.dumps([one.get(key) for key in keys]) for one in settings})


def varying_keys(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Return the keys whose values differ between those that have the key: what only one method has is not compared."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if len({json.dumps(one[key]) for one in settings if key in one}) > 1]


def setting_of(group: Group, key: str) -> str:
    """Return a setting as text; "-" for one that the group's method does not have."""
    return str(group.settings[key]) if key in group.settings else "-"


def compare(groups: Sequence[Group]) -> list[Comparison]:
    """Compare groups of finished runs with those of the same data; what is alone with its data is left out."""
    by_data: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_data[group.settings[DATA]].append(group)
    return [_comparison(data, of_data) for data, of_data in by_data.items() if len(of_data) > 1]


def _comparison(data: str, groups: Sequence[Group]) -> Comparison:
    """Set every other group beside the reference; Welch's test where both have two seeds or more."""
    vanilla = [group for group in groups if group.method == "vanilla"]
    reference = vanilla[0] if len(vanilla) == 1 else groups[0]
    others = [group for group in groups if group is not reference]
    reasons = [_no_test(group, reference) for group in others]
    tests = [
        None if reason else welch(group.top1.values, reference.top1.values)
        for group, reason in zip(others, reasons, strict=True)
    ]
    corrected = iter(holm([test.p for test in tests if test]))
    differences = []
    for group, test, verdict in zip(others, tests, reasons, strict=True):
        points = group.top1.mean - reference.top1.mean
        p = next(corrected) if test else math.nan
        if test:
            verdict = ("higher" if points > 0 else "lower") if p < LEVEL else "no difference shown"
        keys = varying_keys([group.settings, reference.settings])
        besides = tuple(key for key in keys if not key.startswith("method."))
        differences.append(Difference(group, points, test, p, verdict, besides))
    return Comparison(data, reference, tuple(differences))


def _no_test(group: Group, reference: Group) -> str:
    """Return why the two cannot be tested, "" where they can."""
    single = [len(one.records) < 2 for one in (group, reference)]
    if any(single):
        return "no test: one seed " + ("each" if all(single) else "only" if single[0] else "of the reference")
    if len(set(group.top1.values)) == 1 == len(set(reference.top1.values)):
        return "no test: no spread over the seeds of either"
    return ""
