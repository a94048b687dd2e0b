"""The paper's tables: figures that agree with what the paper says elsewhere, and runs joined with their cells."""

import hashlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from evidence.found import Found, existing
from evidence.paper import ABLATIONS, CONFIGS, FILES, caption, cells_of
from evidence.printing import as_json, as_markdown, print_tables
from evidence.tables import build_tables, commands
from pretrain.console import UserError
from pretrain.training.settings import load_settings

ROOT = Path(__file__).parents[2]
GAINS = {  # the row "Gain" of each table
    1: "0.19 0.32 0.87 0.76 0.13 1.41 2.70",
    2: "0.38 0.26 0.37 0.44 0.34 0.22 0.26 0.34 0.31",
    3: "0.36 0.23 0.51 0.32 0.99",
    4: "0.08 0.00 0.18",
    5: "0.11 0.18 0.61 0.12 0.42 0.31 0.37 0.37 0.08 0.15",
    13: "0.17 0.17 0.24 0.26 0.14 0.04 0.32 0.15",
    14: "0.11 0.91 0.87 0.77 1.11 0.44 0.76 0.52",
}
OVER_ANOTHER = {  # gains that are not over the best of the others
    (1, "cifar100/rx50_800ep"): "manifoldmix",
    (3, "imagenet/effb0_a2_300ep"): "puzzlemix",
    (13, "cifar10/rx50_400ep"): "resizemix",
    (14, "cifar100/rx50_800ep"): "manifoldmix",
}


def _figures(table):
    return {(cell.row, cell.column): cell.figure for cell in cells_of(table)}


@cache
def _settings(config, method):
    return json.dumps(asdict(load_settings(CONFIGS / "pretrain" / f"{config}.py", method=method)))


def _run(root, config="cifar100/r18_800ep", method="mixup", seed=0, top1=79.0, name=None, **changes):
    """Write what a pretraining leaves; a change is a dotted key with __ for the dot. Returns the run's folder."""
    settings = json.loads(_settings(config, method))
    settings["run"]["seed"] = seed
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = settings
        for parent in parents:
            node = node[parent]
        node[last] = value
    branch = "teacher" if method == "automix" else "model"
    folder = root / config / f"seed_{seed}" / method
    (folder / "export").mkdir(parents=True)
    result = {
        "name": name or config,
        "method": method,
        "branch": branch,
        "train_seconds": 1.0,
        "steps": 1,
        "accuracy": {f"{branch}_top1": top1, f"{branch}_top5": 99.0},
        "environment": {},
        "settings": settings,
    }
    (folder / "result.json").write_text(json.dumps(result))
    digest = hashlib.sha256(str(folder).encode()).hexdigest()
    (folder / "export" / f"{branch}.json").write_text(json.dumps({"sha256": digest}))
    return folder


def _digest(folder):
    return hashlib.sha256(str(folder).encode()).hexdigest()


def _cell(table, row, column):
    return table.by_place[row, column]


def _written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("table", GAINS)
def test_the_paper_s_gains_follow_from_its_figures(table):
    figures = _figures(table)
    columns = list(dict.fromkeys(column for _, column in figures))
    assert len(columns) == len(GAINS[table].split())
    for column, gain in zip(columns, GAINS[table].split()):
        others = {row: figure for (row, of_column), figure in figures.items() if of_column == column}
        automix, best = others.pop("automix"), max(others, key=others.get)
        against = OVER_ANOTHER.get((table, column), best)
        assert automix - others[against] == pytest.approx(float(gain), abs=1e-6), column
        if against != best:
            assert f"The gain printed for {'EfficientNet' if table == 3 else 'ResNeXt'}" in caption(table)
            assert f"+{gain}" in caption(table)


def test_the_ablations_agree_with_the_tables_and_the_text():
    """Section 4.5: "almost 4 % (66.83 % vs. 70.72 %)", "+2.29 % and +2.21 % on CIFAR-100 and Tiny"."""
    first, second, ninth, tenth = (_figures(number) for number in (1, 2, 9, 10))
    assert ninth["random grids", "tiny/rx50_400ep"] == 66.83
    for column in ("tiny/r18_400ep", "tiny/rx50_400ep"):
        assert ninth["+ l_lambda", column] == first["automix", column]
        modules = [
            ninth[row, column] for row in ("random grids", "+ cross attention", "+ lambda embedding", "+ l_lambda")
        ]
        assert modules == sorted(modules)
    for column, gain in (("cifar100/r18_800ep", 2.29), ("tiny/r18_400ep", 2.21)):
        alone, decoupled = tenth["none", f"{column}/automix"], tenth["+ MP (m = 0)", f"{column}/automix"]
        assert decoupled - alone == pytest.approx(gain)
        assert tenth["+ MP + CE", f"{column}/automix"] == first["automix", column]
    for method in ("mixup", "cutmix"):
        assert tenth["none", f"cifar100/r18_800ep/{method}"] == first[method, "cifar100/r18_800ep"]
        assert tenth["none", f"imagenet/r18_100ep/{method}"] == second[method, "imagenet/r18_100ep"]
        assert f"{first[method, 'tiny/r18_400ep']}" in caption(10)  # the paper's two figures differ
    assert tenth["+ MP + CE", "imagenet/r18_100ep/automix"] == second["automix", "imagenet/r18_100ep"]


def test_table_6_agrees_with_table_14_where_its_comment_does_not_say_otherwise():
    sixth, last = _figures(6), _figures(14)
    assert sixth["vanilla", "clean"] == last["vanilla", "cifar100/rx50_400ep"]
    for method in ("mixup", "cutmix", "puzzlemix", "automix"):
        assert str(last[method, "cifar100/rx50_400ep"]) in caption(6)
    errors = {row: figure for (row, column), figure in sixth.items() if column == "fgsm"}
    assert min(errors, key=errors.get) == "automix"  # Section 4.3: "AutoMix outperforms previous methods"


def test_tables_7_and_8_are_read_as_their_own_packages_read_them():
    from transfer.summarize.paper import table_7
    from wsol.report.paper import table_8

    for number, own in ((7, table_7()), (8, table_8())):
        assert _figures(number) == {(row, column): figure for column in own for row, figure in own[column].items()}


def test_every_setting_of_table_12_is_the_paper_s():
    [table], _ = build_tables([12], [])
    assert len(table.cells) == 27 * 4
    assert {cell.paper.row: cell.own for cell in table.cells if cell.own != cell.paper.text} == {}


def test_table_11_has_no_figures():
    [table], _ = build_tables([11], [])
    assert [(cell.paper.figure, len(cell.missing_seeds)) for cell in table.cells] == [(None, 3)] * 4
    assert "picture" in table.caption


@pytest.mark.parametrize("place", [place for place, (file, _, _) in ABLATIONS.items() if file])
def test_an_ablation_s_file_and_its_options_on_another_base_say_the_same(place):
    file, method, settings = ABLATIONS[place]
    changes = {f"method.{key}": value for key, value in settings.items()}
    here = load_settings(CONFIGS / "pretrain" / "ablations" / f"{file}.py", method=method)
    elsewhere = load_settings(CONFIGS / "pretrain" / "tiny" / "r18_400ep.py", {**changes, "name": here.name}, method)
    assert here == elsewhere


def test_commands_train_what_the_cells_ask_for():
    """Each is parsed as tools/pretrain.sh parses it; its settings are the published ones with the seed."""
    from argparse import ArgumentParser

    from mmengine.config import DictAction

    parser = ArgumentParser()
    parser.add_argument("config")
    for option in ("--method", "--resume", "--work-dir"):
        parser.add_argument(option)
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    tables, _ = build_tables([9, 10, 11], [])
    for line in [line for line in commands(tables) if "run.seed=1" in line]:
        program, *words = shlex.split(line)
        given = parser.parse_args(words)
        settings = load_settings(ROOT / given.config, given.cfg_options, given.method)
        [cell] = [
            cell.paper.training
            for table in tables
            for cell in table.cells
            if cell.paper.training.key == (settings.name, settings.method.name)
        ][:1]
        published = load_settings(cell.path, {**cell.changes, "run.seed": settings.run.seed}, cell.method)
        assert (program, settings) == ("tools/pretrain.sh", published)
        assert given.work_dir == f"work_dirs/{settings.name}/seed_{settings.run.seed}"


def test_three_seeds_have_a_mean_a_sample_deviation_and_a_difference(tmp_path):
    for seed, top1 in enumerate((78.0, 80.0, 79.6)):
        _run(tmp_path, seed=seed, top1=top1, data__root="/elsewhere", data__workers=3, run__log_every=7)
    [table, last], left_out = build_tables([1, 14], [tmp_path])
    cell = _cell(table, "mixup", "cifar100/r18_800ep")
    assert cell.mean == pytest.approx(79.2)
    assert cell.deviation == pytest.approx(1.0583, abs=1e-4)  # sqrt((1.44 + 0.64 + 0.16) / 2)
    assert cell.difference == pytest.approx(79.2 - 79.12)
    assert ([source.seed for source in cell.sources], cell.missing_seeds) == ([0, 1, 2], [])
    assert _cell(last, "mixup", "cifar100/r18_800ep").mean == cell.mean  # Table 14 asks for the same run
    assert sum(bool(cell.sources) for cell in table.cells) == 1
    assert (table.left_out, left_out) == ({}, {})


def test_a_run_with_other_settings_is_listed_and_not_averaged(tmp_path):
    _run(tmp_path, seed=0, top1=79.0)
    short = _run(tmp_path, seed=1, top1=12.0, optim__epochs=5)
    odd = _run(tmp_path, seed=2, optim__momentums=1)
    [table], _ = build_tables([1], [tmp_path])
    cell = _cell(table, "mixup", "cifar100/r18_800ep")
    assert (cell.mean, cell.deviation, cell.missing_seeds) == (79.0, None, [1, 2])
    assert table.left_out[short] == "cifar100/r18_800ep by mixup departs: optim.epochs 5 instead of 800"
    assert "its settings are none of this version" in table.left_out[odd]


def test_a_setting_that_came_after_the_run_has_its_default(tmp_path):
    folder = _run(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    del result["settings"]["optim"]["ema_decay"]
    (folder / "result.json").write_text(json.dumps(result))
    [table], _ = build_tables([1], [tmp_path])
    assert len(_cell(table, "mixup", "cifar100/r18_800ep").sources) == 1


def test_of_a_seed_that_was_run_twice_the_newer_counts_and_this_is_said(tmp_path):
    older = _run(tmp_path / "z", top1=70.0)
    newer = _run(tmp_path / "a", top1=79.0)
    os.utime(older / "result.json", (1, 1))
    [table], _ = build_tables([1], [tmp_path])
    assert _cell(table, "mixup", "cifar100/r18_800ep").values == [79.0]
    assert table.left_out == {older: f"seed 0 of cifar100/r18_800ep by mixup again; {newer} is newer"}


def test_runs_of_no_table_and_of_another_name_for_the_same_run(tmp_path):
    none = _run(tmp_path / "a", name="quickstart/pretrain")
    _run(tmp_path / "b", "tiny/r18_400ep", top1=63.0)
    _run(tmp_path / "c", "tiny/r18_400ep", seed=1, top1=64.0, name="ablations/mixup")
    [first, tenth], left_out = build_tables([1, 10], [tmp_path])
    assert left_out == {none: "quickstart/pretrain by mixup is no cell of the paper's tables"}
    assert _cell(first, "mixup", "tiny/r18_400ep").values == [63.0]
    assert _cell(tenth, "none", "tiny/r18_400ep/mixup").values == [63.0, 64.0]


def _evaluated(folder, **changes):
    content = {
        "checkpoint": str(folder / "export" / "model.safetensors"),
        "branch": "model",
        "images": 10_000,
        "top1": 82.5,
        "fgsm_error": 56.0,
        "fgsm_epsilon": 8 / 255,
        "corruption": {"mean": 58.0, "by_corruption": {str(number): [58.0] * 5 for number in range(19)}},
    }
    return {key: value for key, value in {**content, **changes}.items() if value is not None}


def test_table_6_is_filled_from_evaluations_beside_runs_or_elsewhere(tmp_path):
    first, second = (_run(tmp_path, "cifar100/rx50_400ep", seed=seed) for seed in (0, 1))
    _written(first / "evaluation" / "evaluation.json", _evaluated(first))
    _written(tmp_path / "elsewhere" / "evaluation.json", _evaluated(second, top1=82.7, corruption=None))
    [table], _ = build_tables([6], [tmp_path])
    assert [_cell(table, "mixup", column).values for column in table.columns] == [[82.5, 82.7], [58.0], [56.0, 56.0]]
    assert _cell(table, "mixup", "fgsm").difference == pytest.approx(-0.6)
    assert table.left_out == {}
    lines = [line for line in table.commands if "--method mixup" in line or "/mixup/" in line]
    assert sorted(line.split()[0] for line in lines) == ["python", "tools/pretrain.sh"]  # seed 1 is trained, 2 not


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 1000}, "1000 images instead of the 10,000 of CIFAR-100's test set"),
        ({"fgsm_epsilon": 4 / 255}, "FGSM of 4/255 instead of 8/255"),
        ({"corruption": {"mean": 1.0, "by_corruption": {"fog": [1.0]}}}, "1 corruptions instead of 19"),
        ({"branch": "student"}, "an evaluation of the student; the result of mixup is its model"),
        ({"branch": None}, "no evaluation.json such as this version writes (KeyError: 'branch')"),
    ],
)
def test_an_evaluation_of_something_else_fills_no_cell_of_table_6(tmp_path, changes, reason):
    folder = _run(tmp_path, "cifar100/rx50_400ep")
    path = _written(folder / "evaluation.json", _evaluated(folder, **changes))
    [table], _ = build_tables([6], [tmp_path])
    assert table.left_out == {path: reason}
    assert not any(cell.sources for cell in table.cells)


def test_evaluations_of_other_runs_fill_no_cell_of_table_6(tmp_path):
    other, short = _run(tmp_path), _run(tmp_path, "cifar100/rx50_400ep", optim__epochs=4)
    paths = [_written(folder / "evaluation.json", _evaluated(folder)) for folder in (other, short)]
    paths.append(_written(tmp_path / "stray" / "evaluation.json", _evaluated(tmp_path / "gone")))
    [table], _ = build_tables([6], [tmp_path])
    reasons = [table.left_out[path] for path in paths]
    assert reasons[0] == "an evaluation of cifar100/r18_800ep by mixup, which is no row of Table 6"
    assert reasons[1] == f"the pretraining {short} departs: optim.epochs 4 instead of 400"
    assert reasons[2].startswith("no result.json of its checkpoint")


def _detected(folder, config="voc_r50_c4_24k", start="mixup", seed=0, ap50=80.0, **changes):
    return {
        "framework": "Detectron2 0.6",
        "config": config,
        "start": start,
        "seed": seed,
        "AP": 50.0,
        "AP50": ap50,
        "AP75": 60.0,
        "iterations": 24_000,
        "settings": {"SEED": seed},
        "backbone_sha256": _digest(folder) if folder else "",
        **changes,
    }


def test_table_7_averages_over_pretrainings_and_not_over_detectors_of_one(tmp_path):
    first, second = (_run(tmp_path, "imagenet/r50_100ep", seed=seed) for seed in (0, 1))
    for folder, seed, ap50 in ((first, 0, 80.0), (first, 1, 81.0), (second, 0, 82.5)):
        _written(tmp_path / f"d2/{folder.parent.name}-{seed}/results.json", _detected(folder, seed=seed, ap50=ap50))
    [table], _ = build_tables([7], [tmp_path])
    cell = _cell(table, "mixup", "voc_r50_c4_24k/AP50")
    assert (cell.values, cell.mean, cell.pretrainings) == ([80.5, 82.5], 81.5, 2)
    assert cell.difference == pytest.approx(0.8)
    assert cell.missing_seeds == [2]
    assert not _cell(table, "mixup", "coco_r50_c4_2x/AP").sources
    assert table.left_out == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"config": "voc_r18_fpn"},
            "by voc_r18_fpn, another network and schedule than voc_r50_c4_24k and coco_r50_c4_2x",
        ),
        ({"iterations": 400}, "400 iterations instead of 24000"),
        ({"framework": "mmdetection"}, "by mmdetection; the paper's table is Detectron2's"),
        ({"settings": {"SOLVER.BASE_LR": 1.0}}, "departs from voc_r50_c4_24k: SOLVER.BASE_LR 1.0"),
        ({"start": "random", "backbone_sha256": ""}, "starts from 'random', which is no row of Table 7"),
        ({"backbone_sha256": "f" * 64}, "the pretraining of its weights (ffffffffffff) is not below the folders"),
        ({"backbone_sha256": "", "weights_sha256": ""}, "the pretraining of its weights (no digest) is not below"),
        ({"start": "mixup student"}, "starts from the student; the result of mixup is its model"),
        ({"start": "cutmix"}, "its weights are of imagenet/r50_100ep by mixup, not of imagenet/r50_100ep by cutmix"),
        ({"changed_on_resume": ["SOLVER.BASE_LR"]}, "SOLVER.BASE_LR changed in the middle of the run"),
        ({"start": None}, "not the results.json of a detection run"),
        ({"config": None}, "no results.json such as this version writes (TypeError"),
        ({"AP": "high"}, "not the results.json of a detection run"),
    ],
)
def test_a_detector_of_something_else_fills_no_cell_of_table_7(tmp_path, changes, reason):
    folder = _run(tmp_path, "imagenet/r50_100ep")
    path = _written(tmp_path / "d2" / "results.json", {**_detected(folder), **changes})
    [table], _ = build_tables([7], [tmp_path])
    assert reason in table.left_out[path]
    assert not any(cell.sources for cell in table.cells)


def test_a_detector_of_weights_that_were_trained_otherwise_fills_no_cell(tmp_path):
    folder = _run(tmp_path, "imagenet/r50_100ep", optim__epochs=1)
    path = _written(tmp_path / "d2" / "results.json", _detected(folder))
    [table], _ = build_tables([7], [tmp_path])
    assert table.left_out == {path: f"the pretraining of its weights, {folder}, departs: optim.epochs 1 instead of 100"}


def test_a_detector_that_was_run_twice_counts_once(tmp_path):
    folder = _run(tmp_path, "imagenet/r50_100ep")
    older, newer = (
        _written(tmp_path / name / "results.json", _detected(folder, ap50=ap50))
        for name, ap50 in (("z", 70), ("a", 80))
    )
    os.utime(older, (1, 1))
    [table], _ = build_tables([7], [tmp_path])
    assert _cell(table, "mixup", "voc_r50_c4_24k/AP50").values == [80.0]
    assert table.left_out == {older: f"seed 0 from the same weights again; {newer} is newer"}


def _localised(folder, **changes):
    return {
        "paper": {"comparable": True, "why": "", "method": "mixup", "config": "cub200/r18_200ep"},
        "checkpoint": {"method": "mixup", "branch": "model", "sha256": _digest(folder)},
        "max_box_acc_v2": {"30": 70.0, "50": 50.0, "70": 30.0, "mean": 49.0},
        **changes,
    }


def test_table_8_takes_the_mean_over_the_iou_thresholds(tmp_path):
    folder = _run(tmp_path, "cub200/r18_200ep", seed=2)
    _written(tmp_path / "wsol" / "wsol.json", _localised(folder))
    [table], _ = build_tables([8], [tmp_path])
    cell = _cell(table, "mixup", "cub200/r18_200ep")
    assert ([source.seed for source in cell.sources], cell.values) == ([2], [49.0])
    assert cell.difference == pytest.approx(49.0 - 48.62)
    assert table.left_out == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"paper": None}, "no column of Table 8 fits its network and metric"),
        (
            {"paper": {"comparable": False, "why": "the split is val, not test"}},
            "not comparable: the split is val, not",
        ),
        (
            {
                "paper": {"comparable": True, "why": "", "method": None, "config": "cub200/r18_200ep"},
                "checkpoint": {"method": "resizemix"},
            },
            "the classifier's method, resizemix, is no row of Table 8",
        ),
        ({"checkpoint": {"method": "mixup", "branch": "model", "sha256": "0" * 64}}, "is not below the folders"),
    ],
)
def test_a_localisation_of_something_else_fills_no_cell_of_table_8(tmp_path, changes, reason):
    folder = _run(tmp_path, "cub200/r18_200ep")
    path = _written(tmp_path / "wsol.json", _localised(folder, **changes))
    [table], _ = build_tables([8], [tmp_path])
    assert reason in table.left_out[path]
    assert not any(cell.sources for cell in table.cells)


def test_maps_of_the_student_fill_no_cell_of_table_8(tmp_path):
    folder = _run(tmp_path, "cub200/r18_200ep")
    made_by = {"method": "mixup", "branch": "student", "sha256": _digest(folder)}
    path = _written(tmp_path / "wsol.json", _localised(folder, checkpoint=made_by))
    [table], _ = build_tables([8], [tmp_path])
    assert table.left_out == {path: "maps of the student; the result of mixup is its model"}


def test_lines_need_nothing_of_each_other_and_ask_for_no_run_twice(tmp_path):
    tables, _ = build_tables(sorted(FILES), [])
    lines = commands(tables)
    steps = [step for line in lines for step in line.split(" && ")]
    assert len(steps) == len(set(steps))
    trained = [line.split(" && ")[0] for line in lines]
    assert all(command.startswith("tools/pretrain.sh ") for command in trained)
    # Of Tables 1 to 5, 13 and 14 all 429 but TransMix on Swin-T; Table 6 adds AugMix, Table 8 Co-Mixup on two networks,
    # Table 9 three rows on two networks, Table 10 seven cells on three data sets, Table 11 three layers.
    assert len(lines) == 3 * (428 + 1 + 2 + 3 * 2 + 7 * 3 + 3)
    [automix] = [line for line in lines if "imagenet/r50_100ep.py --method automix" in line and "run.seed=1" in line]
    assert [step.split()[1] for step in automix.split(" && ")] == [
        "configs/pretrain/imagenet/r50_100ep.py",
        *("tools/convert_to_d2.py", "tools/finetune_d2.py", "tools/finetune_d2.py"),
    ]
    assert "seed_1/automix/export/teacher.safetensors" in automix


def test_a_pretraining_that_is_done_is_not_asked_for_again(tmp_path):
    folder = _run(tmp_path, "cub200/r18_200ep", seed=1)
    [table], _ = build_tables([8], [tmp_path])
    [line] = [line for line in table.commands if str(folder) in line]
    assert shlex.split(line)[:4] == [
        *("python", "tools/eval_wsol.py", "--checkpoint", f"{folder}/export/model.safetensors")
    ]
    assert sum("r18_200ep.py --method mixup" in line for line in table.commands) == 2  # seeds 0 and 2


def test_a_cell_that_cannot_be_trained_has_no_command():
    [table], _ = build_tables([4], [])
    assert _cell(table, "transmix", "imagenet/swint_300ep").missing_seeds == []
    assert not any("swint_300ep.py --method transmix" in line for line in table.commands)
    assert "81.80; cannot be trained here" in as_markdown([table], {}, "x", ROOT / "docs")


def _printed(tables, left_out, width):
    console = Console(file=StringIO(), width=width, highlight=False, markup=False)
    print_tables(tables, left_out, console)
    return console.file.getvalue()


def test_a_narrow_terminal_has_the_columns_in_blocks(tmp_path):
    for seed, top1 in enumerate((78.0, 80.0, 79.6)):
        _run(tmp_path, seed=seed, top1=top1)
    _run(tmp_path, method="cutmix", top1=78.0)
    tables, left_out = build_tables([1], [tmp_path])
    text = _printed(tables, left_out, 80)
    lines = [line for line in text.splitlines() if "tools/" not in line]
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("vanilla") for line in lines) == 3
    assert text.count(" | not run") == 70 - 2
    assert "79.12 | 79.20 ± 1.06 (3) +0.08" in text
    assert "78.17 | 78.00 (1 of 3) -0.17" in text
    assert "70 cells: 2 with runs, 1 of these with 3 or more." in text
    assert "... 204 more; the same command with --commands prints them all" in text  # 210 - 3 - 1, less 2 shown


def test_one_pretraining_of_several_detectors_is_marked(tmp_path):
    folder = _run(tmp_path, "imagenet/r50_100ep")
    for seed in range(3):
        _written(tmp_path / f"d2/{seed}/results.json", _detected(folder, seed=seed, ap50=80.0))
    assert "80.7 | 80.00 ± 0.00 (3, 1 pretraining) -0.70" in _printed(*build_tables([7], [tmp_path]), 200)


def test_what_is_left_out_stands_below_its_table_by_reason(tmp_path):
    for name in "abcd":
        _written(tmp_path / name / "results.json", _detected(None, "voc_r18_fpn"))
    text = _printed(*build_tables([7], [tmp_path]), 1000)
    [line] = [line for line in text.splitlines() if "voc_r18_fpn" in line]
    assert line.startswith("- not counted: by voc_r18_fpn, another network and schedule")
    assert line.rstrip().endswith("... (4 in all, --json OUT.json has them)")


def test_the_page_of_the_docs_is_what_the_tool_writes():
    command = "python tools/paper_tables.py --markdown docs/paper_tables.md --runs"
    page = as_markdown(*build_tables(sorted(FILES), []), command, ROOT / "docs")
    assert (ROOT / "docs" / "paper_tables.md").read_text(encoding="utf-8") == page


def test_links_of_the_page_lead_to_files():
    page = (ROOT / "docs" / "paper_tables.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 100
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []


def test_the_json_has_every_cell(tmp_path):
    folder = _run(tmp_path, seed=4, top1=80.0)
    value = json.loads(json.dumps(as_json(*build_tables([1, 12], [tmp_path])), allow_nan=False))
    [cell] = [cell for cell in value["tables"][0]["cells"] if cell["runs"]]
    assert cell == {
        "row": "mixup",
        "column": "cifar100/r18_800ep",
        "paper": 79.12,
        "mean": 80.0,
        "standard_deviation": None,
        "n": 1,
        "difference": pytest.approx(0.88),
        "runs": [{"path": str(folder), "seed": 4, "value": 80.0}],
        "pretraining_runs": 1,
        "config": "configs/pretrain/cifar100/r18_800ep.py",
        "method": "mixup",
        "note": "",
        "missing_seeds": [0, 1],
    }
    assert value["tables"][1]["cells"][0] == {
        "row": "Train Res",
        "column": "PyTorch",
        "paper": "224",
        "own": "224",
        "equal": True,
    }


def test_the_tool_prints_the_missing_commands_and_nothing_else(tmp_path):
    _run(tmp_path / "work_dirs", name="quickstart/pretrain")
    command = [sys.executable, str(ROOT / "tools/paper_tables.py"), "--table", "8", "--commands", "--json", "8.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    written = json.loads((tmp_path / "8.json").read_text())
    assert (done.stdout.splitlines(), done.stderr) == (written["commands"], "")
    assert len(written["commands"]) == 3 * 14
    assert list(written["left_out"]) == ["work_dirs/cifar100/r18_800ep/seed_0/mixup"]  # work_dirs was looked into


def test_folders_and_tables_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert existing(None) == []
    (tmp_path / "work_dirs").mkdir()
    assert existing(None) == [Path("work_dirs")]
    assert existing([]) == []
    with pytest.raises(UserError, match=r"--runs nothing: no such folder; name one that holds runs, such as work_dirs"):
        existing([Path("nothing")])
    with pytest.raises(UserError, match=r"--table 15: the paper has Tables 1 to 14"):
        build_tables([15], [])


def test_an_export_without_a_digest_is_no_run_s(tmp_path):
    folder = _run(tmp_path)
    (folder / "export" / "mix_block.json").write_text("{}")
    assert list(Found([tmp_path]).exported) == [_digest(folder)]


def test_files_that_cannot_be_written_are_told_before_the_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tools/paper_tables.py", "--table", "12", "--runs", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools/paper_tables.py"), run_name="__main__")
        return ended.value.code, capsys.readouterr()

    assert call("--json", tmp_path)[1].err == (
        f"error: {tmp_path}: is a folder; name a file, such as --json {tmp_path}/paper_tables.json\n"
    )
    code, said = call("--json", tmp_path / "new.json", "--markdown", tmp_path / "file/x.md")
    assert (code, said.out) == (2, "")
    assert said.err.endswith("name another folder, by --markdown\n")
    assert not (tmp_path / "new.json").exists()
    code, said = call("--json", tmp_path / "new.json")
    assert (code, said.err) == (0, f"written: {tmp_path}/new.json\n")
