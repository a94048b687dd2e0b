"""What a filled cell leaves: one small file with everything that the tables and curves are made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evidence.stages import ROOT, Stage, fingerprints
from evidence.study.plan import BY_KEY, SEEDS, SOURCES, WORK, Cell, stages
from pretrain.console import UserError
from pretrain.evaluation.looks import find_looks, read_look
from pretrain.files import read_json, write_json
from pretrain.training.logbook import read_log

RECORDS = WORK / "records"
MEASURED = ("images", "top1", "top5", "ece", "calibration", "fgsm_error", "mixed")  # of evaluation.json


@dataclass(frozen=True)
class CellRecord:
    """One cell's results; accuracies, errors and AP in percent.

    Attributes:
        source, condition, seed: The cell.
        fingerprint: Of its commands and their configs.
        date: When its last command ended, UTC.
        environment: Of the training.
        branch: The network that is the result: "teacher" or "model".
        steps, train_seconds: Of the training; the seconds hold evaluations no more than the log's `elapsed` does.
        accuracy: Of every network, medians over the last tenth of the epochs, ten at most.
        curve: [step, seconds, top-1] of the result at each evaluation.
        last: Means of the losses and measures in the log's last line.
        mask_spread: `MaskLook.spread` of the Mix Block at the end of the training; None without one.
        evaluation: The `MEASURED` entries of evaluation.json.
        wsol, detection: Figures by name; None for a source without boxes.
        seconds: Of each command.
    """

    source: str
    condition: str
    seed: int
    fingerprint: str
    date: str
    environment: dict[str, str]
    branch: str
    steps: int
    train_seconds: float
    accuracy: dict[str, float]
    curve: list[list[float]]
    last: dict[str, float]
    evaluation: dict[str, Any]
    mask_spread: float | None = None
    wsol: dict[str, Any] | None = None
    detection: dict[str, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its file, without the ending."""
        return f"{self.source}-{self.condition}-{self.seed}"

    @property
    def top1(self) -> float:
        """Top-1 accuracy of the result."""
        return self.accuracy[f"{self.branch}_top1"]


def fingerprint_of(cell: Cell) -> str:
    """Return the digest of the cell's commands and of the configs that they name."""
    found = fingerprints(stages(cell))
    return hashlib.sha256("".join(found.values()).encode()).hexdigest()[:16]


def write_record(cell: Cell) -> CellRecord:
    """Gather what the cell's commands left and write it as one file, atomically."""
    folder, run = ROOT / cell.folder, ROOT / cell.run
    result, log = read_json(run / "result.json"), read_log(run)
    key = f"{result['branch']}_top1"
    done = stages(cell)
    evaluation = read_json(folder / "evaluation/evaluation.json")
    record = CellRecord(
        source=cell.source.key,
        condition=cell.condition.key,
        seed=cell.seed,
        fingerprint=fingerprint_of(cell),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        environment=result["environment"],
        branch=result["branch"],
        steps=result["steps"],
        train_seconds=round(result["train_seconds"], 1),
        accuracy=result["accuracy"],
        curve=[[entry["step"], round(entry["elapsed"], 1), round(entry[key], 3)] for entry in log if key in entry],
        last=[{k: v for k, v in entry.items() if k not in ("step", "lr")} for entry in log if "total" in entry][-1],
        evaluation={name: evaluation[name] for name in MEASURED},
        mask_spread=_mask_spread(run),
        wsol=_localisation(folder) if cell.source.scenes else None,
        detection=_detection(folder) if cell.source.scenes else None,
        seconds={stage.name: _seconds(stage, folder) for stage in done[1:]},
    )
    write_json(ROOT / RECORDS / f"{record.name}.json", asdict(record))
    return record


def read_records(where: Path) -> list[CellRecord]:
    """Read records, in the order of the plan.

    Args:
        where: The folder that the study leaves them in, or a file of JSON lines, as `dumps` makes it.

    Raises:
        UserError: There is no such thing; something in it is no record; a record is of a cell that the plan has not, or
            of one that another record is of too.
    """
    if where.is_file():
        found = _from_lines(where)
    else:
        found = {str(path): _record(read_json(path), str(path)) for path in sorted(where.glob("*.json"))}
    if not found:
        raise UserError(f"{where}: no records of the study there; run `make study-quick` or `make study`")
    first: dict[str, str] = {}
    for place, record in found.items():
        if (other := first.setdefault(record.name, place)) != place:
            raise UserError(f"{place}: {record.name} is in {other} too; remove one of them")
    sources, conditions = [source.key for source in SOURCES], list(BY_KEY)
    return sorted(found.values(), key=lambda r: (sources.index(r.source), conditions.index(r.condition), r.seed))


def values(records: Iterable[CellRecord], source: str, condition: str) -> list[CellRecord]:
    """Return the records of a source and a condition, by seeds."""
    return [record for record in records if (record.source, record.condition) == (source, condition)]


def outdated(records: Iterable[CellRecord]) -> list[str]:
    """Return the names of the records that other commands or configs made than those that there are now."""
    sources = {source.key: source for source in SOURCES}
    return [
        record.name
        for record in records
        if record.fingerprint != fingerprint_of(Cell(sources[record.source], BY_KEY[record.condition], record.seed))
    ]


def _from_lines(path: Path) -> dict[str, CellRecord]:
    """Return the records of a file by their places in it."""
    found = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        place = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are some
            raise UserError(f"{place}: not valid JSON ({error}); remove the line, or write the file again") from error
        found[place] = _record(content, place)
    return found


def _record(content: Any, where: str) -> CellRecord:
    remedy = "remove it, or name another place of records by --records"
    try:
        TypeAdapter(CellRecord).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        why = f"{what}: {first['msg']}" if what else first["msg"]
        raise UserError(f"{where}: not a record of the study ({why}); {remedy}") from error
    record = CellRecord(**content)  # as it was written: numbers that are whole stay whole
    lacking = [] if f"{record.branch}_top1" in record.accuracy else [f"accuracy.{record.branch}_top1"]
    lacking += [] if all(len(point) == 3 for point in record.curve) else ["curve of step, seconds, top-1"]
    lacking += [f"evaluation.{name}" for name in MEASURED if name not in record.evaluation]
    if lacking:
        raise UserError(f"{where}: a record of the study without {', '.join(lacking)}; {remedy}")
    sources = [source.key for source in SOURCES]
    if record.source not in sources or record.condition not in BY_KEY or record.seed not in SEEDS:
        raise UserError(f"{where}: the study has no such cell any more; remove it")
    return record


def _mask_spread(run: Path) -> float | None:
    looks = list(find_looks(run).values())
    return read_look(looks[-1]).spread() if looks else None


def _localisation(folder: Path) -> dict[str, Any]:
    found = read_json(folder / "wsol/wsol.json")
    return {
        "max_box_acc_v2": found["max_box_acc_v2"]["mean"],
        "centre": found["centre_baseline"]["mean"],
        "images": found["images"],
    }


def _detection(folder: Path) -> dict[str, float]:
    found = read_json(folder / "detection/results.json")
    return {name: found[name] for name in ("AP", "AP50", "AP75")}


def _seconds(stage: Stage, folder: Path) -> float:
    return round(float(read_json(folder / "stages" / f"{stage.name}.json")["seconds"]), 1)


def dumps(records: Iterable[CellRecord]) -> str:
    """Return records as JSON lines, their numbers to three decimals."""
    return "".join(json.dumps(_rounded(asdict(record)), separators=(",", ":")) + "\n" for record in records)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(value, 3) if isinstance(value, float) else value
