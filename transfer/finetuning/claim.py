"""Whose folder the output of a fine-tuning is: a run goes on in its own, and touches no other's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pretrain.console import UserError
from pretrain.files import read_json, sha256, write_json
from transfer.convert import Converted
from transfer.finetuning.scaling import Change

RUN, RESULTS = "run.json", "results.json"


def identity(
    converted: Converted | None,
    weights: Path | None,
    seed: int,
    batch: int,
    world_size: int,
    changes: Iterable[Change],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what tells a run from others: run.json holds it, and results.json.

    Args:
        converted: The weights; None for a random start.
        weights: Their file.
        seed: Of the fine-tuning.
        batch: Images in a step, all processes together.
        world_size: Number of processes.
        changes: What --scale-to changed.
        settings: {key: value as JSON holds it} of whatever decides the outcome.
    """
    return {
        "start": converted.start if converted else "random",
        "weights_sha256": sha256(weights) if weights else "",
        "seed": seed,
        "batch": batch,
        "world_size": world_size,
        "scaling": {change.key: [change.before, change.after] for change in changes},
        "settings": dict(settings),
        "changed_on_resume": [],
    }


def claim(
    output: Path,
    mine: dict[str, Any],
    begun: bool,
    writes: bool,
    eval_only: bool,
    resume: bool,
    option: str,
    default: Callable[[str], Any] = lambda key: None,
) -> list[str]:
    """Write down whose folder `output` is, or check that it is this run's; return the settings that --resume changed.

    Only the first machine writes: results.json goes before run.json changes, so that whichever of the two another
    machine still sees, it comes to the same conclusion.

    Args:
        output: The folder.
        mine: The run's `identity`; its "changed_on_resume" is brought up to date.
        begun: Whether the folder holds a checkpoint.
        writes: Whether this process writes.
        eval_only: Whether nothing is to be trained.
        resume: Whether a run of other settings may go on.
        option: The command line's option for the folder.
        default: Value of a setting that no config sets.

    Raises:
        UserError: It holds a run of other settings, or --eval-only finds no checkpoint.
    """
    if eval_only and not begun:
        raise UserError(f"{output}: no checkpoint to evaluate; train first, with the same command without --eval-only")
    changed: list[str] = []
    if begun:
        theirs = read_json(output / RUN)
        for key in ("start", "weights_sha256", "seed"):
            if mine[key] != theirs.get(key):
                before = theirs.get(key)
                raise UserError(
                    f"{output}: holds a run of another {key} ({before}, now {mine[key]}); choose an {option}"
                )
        old, new = ({**run["settings"], "world size": run.get("world_size", 1)} for run in (theirs, mine))
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if eval_only and "world size" in changed:
            changed.remove("world size")  # any number of processes finds the same boxes
            mine["world_size"] = old["world size"]
        if changed and not resume:
            key = changed[0]
            before, now = (values.get(key, default(key)) for values in (old, new))
            raise UserError(
                f"{output}: holds a run with another {key} ({before}, now {now}); "
                f"choose another {option}, or go on with the new setting by --resume"
            )
        mine["changed_on_resume"] = theirs.get("changed_on_resume", []) + changed
    if writes:
        if changed:
            (output / RESULTS).unlink(missing_ok=True)
        write_json(output / RUN, mine)
    return changed
