"""The results that follow a pretraining, and the cells of Tables 6, 7 and 8 that they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from evidence.found import Found
from evidence.paper import PaperCell
from evidence.runs import RESULT, PretrainRun, owner_of
from pretrain.console import UserError, first_few
from pretrain.files import read_json

CIFAR_TEST_IMAGES = 10_000
CORRUPTIONS = 19
FGSM_EPSILON = 8 / 255
FIGURES_OF_TABLE_6 = {"clean": ("top1",), "corruption": ("corruption", "mean"), "fgsm": ("fgsm_error",)}


class Source(NamedTuple):
    """One value of a cell: where it is from, the seed, the value in percent, and what it was pretrained as."""

    path: Path
    seed: int
    value: float
    pretraining: Path


Sources = dict[tuple[str, str], list[Source]]  # by row and column
LeftOut = dict[Path, str]


def collect(table: int, cells: list[PaperCell], found: Found) -> tuple[Sources, LeftOut]:
    """Return what fills the cells of Table 6, 7 or 8, and {file: reason} for each result that fills none."""
    read = {6: _robustness, 7: _detection, 8: _localisation}[table]
    name = {6: "evaluation.json", 7: "results.json", 8: "wsol.json"}[table]
    newest: dict[tuple[str, str, int, Path], Source] = {}
    left_out: LeftOut = {}
    for path in sorted(found.files(name), key=lambda path: path.stat().st_mtime):
        try:
            sources = list(read(path, cells, found))
        except UserError as error:
            left_out[path] = str(error)
            continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out[path] = f"no {name} such as this version writes ({type(error).__name__}: {error})"
            continue
        for place, source in sources:
            key = (*place, source.seed, source.pretraining)
            if older := newest.get(key):
                left_out[older.path] = f"seed {source.seed} from the same weights again; {path} is newer"
            newest[key] = source
    filled: Sources = {}
    for (row, column, _, _), source in sorted(newest.items()):
        filled.setdefault((row, column), []).append(source)
    return filled, left_out


Place = tuple[tuple[str, str], Source]


def _robustness(path: Path, cells: list[PaperCell], found: Found) -> Iterator[Place]:
    """Yield the figures of an evaluation.json.

    Raises:
        UserError: They are no cell of Table 6.
    """
    content = read_json(path)
    run = _run_of(path, content, found)
    of_method = [cell for cell in cells if cell.row == run.method]
    training = (of_method or cells)[0].training
    if not of_method or training is None or run not in found.of(training):
        raise UserError(f"an evaluation of {run.config} by {run.method}, which is no row of Table 6")
    if departs := found.departures(run, training):
        raise UserError(f"the pretraining {run.folder} {departs}")
    if content["branch"] != run.branch:
        raise UserError(f"an evaluation of the {content['branch']}; the result of {run.method} is its {run.branch}")
    if content.get("images", CIFAR_TEST_IMAGES) != CIFAR_TEST_IMAGES:
        raise UserError(f"{content['images']} images instead of the {CIFAR_TEST_IMAGES:,} of CIFAR-100's test set")
    if (corrupted := content.get("corruption")) and len(corrupted["by_corruption"]) != CORRUPTIONS:
        raise UserError(f"{len(corrupted['by_corruption'])} corruptions instead of {CORRUPTIONS}")
    epsilon = content.get("fgsm_epsilon", FGSM_EPSILON)
    if not math.isclose(epsilon, FGSM_EPSILON):
        raise UserError(f"FGSM of {epsilon * 255:g}/255 instead of 8/255")
    for cell in of_method:
        value: Any = content
        for key in FIGURES_OF_TABLE_6[cell.column]:
            value = (value or {}).get(key)
        if value is not None:
            yield (cell.row, cell.column), Source(path, run.seed, float(value), run.folder)


def _run_of(path: Path, content: dict[str, Any], found: Found) -> PretrainRun:
    run = owner_of(path, content["checkpoint"], {run.folder.resolve(): run for run in found.runs})
    if run is None:
        raise UserError(f"no {RESULT} of its checkpoint, {content['checkpoint']}, is below the folders")
    return run


def _detection(path: Path, cells: list[PaperCell], found: Found) -> Iterator[Place]:
    """Yield the figures of a results.json.

    Raises:
        UserError: It is no run of Table 7.
    """
    content = read_json(path)
    framework, config = str(content["framework"]), Path(content["config"]).stem
    protocols = list(dict.fromkeys(cell.column.split("/")[0] for cell in cells))
    if not framework.startswith("Detectron2"):
        raise UserError(f"by {framework}; the paper's table is Detectron2's, and tools/summarize.py shows both")
    if config not in protocols:
        raise UserError(f"by {config}, another network and schedule than {' and '.join(protocols)}")

    from transfer.summarize.paper import columns_of, departures, iterations_of  # late: they bring torch
    from transfer.summarize.runs import read_runs

    [run], _ = read_runs([path])
    if not columns_of(run)[0].paper:
        raise UserError(f"{run.settings['iterations']} iterations instead of {iterations_of(config)}")
    if changed := departures(run):
        raise UserError(f"departs from {config}: {first_few((f'{k} {v}' for k, v in changed.items()), 5)}")
    of_method = [cell for cell in cells if cell.row == run.method and cell.column.split("/")[0] == config]
    if not of_method or of_method[0].training is None:
        raise UserError(f"starts from '{run.start}', which is no row of Table 7")
    pretraining, wrong = found.training_of(run.pretraining, of_method[0].training)
    if wrong or pretraining is None:
        raise UserError(wrong)
    if run.start.lower().endswith(" student"):
        raise UserError(f"starts from the student; the result of {run.method} is its {pretraining.branch}")
    for cell in of_method:
        value = run.figures[cell.column.split("/")[1]]
        if not math.isnan(value):
            yield (cell.row, cell.column), Source(path, run.seed, value, pretraining.folder)


def _localisation(path: Path, cells: list[PaperCell], found: Found) -> Iterator[Place]:
    """Yield the figure of a wsol.json.

    Raises:
        UserError: It is no result of Table 8.
    """
    content = read_json(path)
    beside = content.get("paper")
    if not beside:
        raise UserError("no column of Table 8 fits its network and metric, or an older version wrote it")
    if not beside["comparable"]:
        raise UserError(f"not comparable: {beside['why']}")
    of_method = [cell for cell in cells if (cell.row, cell.column) == (beside["method"], beside["config"])]
    if not of_method or of_method[0].training is None:
        raise UserError(f"the classifier's method, {content['checkpoint']['method']}, is no row of Table 8")
    pretraining, wrong = found.training_of(content["checkpoint"]["sha256"], of_method[0].training)
    if wrong or pretraining is None:
        raise UserError(wrong)
    if content["checkpoint"]["branch"] != pretraining.branch:
        branch = content["checkpoint"]["branch"]
        raise UserError(f"maps of the {branch}; the result of {pretraining.method} is its {pretraining.branch}")
    value = float(content["max_box_acc_v2"]["mean"])
    yield (of_method[0].row, of_method[0].column), Source(path, pretraining.seed, value, pretraining.folder)
