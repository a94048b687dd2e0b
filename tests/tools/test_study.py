"""The study: its cells are commands that exist, compare equal steps, and are filled in order; its tables are right."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import DictAction

import study
from evidence import stages as chain
from evidence.paper import cells_of
from evidence.study import plan, records, report, runner, tables
from pretrain.automix import AutoMixSettings
from pretrain.console import UserError
from pretrain.training.methods import untrained_method_of
from pretrain.training.settings import load_settings

ROOT = Path(__file__).parents[2]
CONDITIONS = {c.key: c for c in plan.CONDITIONS}


def _settings(cell):
    """Return what the cell's training command makes of its config."""
    words = plan.stages(cell)[1].command
    pairs = dict(word.split("=", 1) for word in words[words.index("--cfg-options") + 1 :])
    changes = {key: DictAction._parse_iterable(value) for key, value in pairs.items()}
    return load_settings(ROOT / cell.source.config, changes, cell.condition.method)


@pytest.mark.parametrize("source", plan.SOURCES, ids=lambda source: source.key)
def test_every_condition_trains_as_long_on_as_many_images(source):
    seen = {}
    for condition in plan.CONDITIONS:
        s = _settings(plan.Cell(source, condition, 1))
        epochs = s.optim.epochs // condition.passes
        seen[condition.key] = (replace(s.optim, epochs=epochs), s.data, s.backbone, replace(s.run, seed=0))
        assert (s.run.seed, epochs) == (1, source.epochs)
        assert (condition.passes > 1) == (condition.group == "time")
    assert len({repr(value) for value in seen.values()}) == 1


@pytest.mark.parametrize("condition", plan.CONDITIONS, ids=lambda condition: condition.key)
def test_the_network_that_is_evaluated_is_the_methods_result(condition):
    for source in plan.SOURCES:
        cell = plan.Cell(source, condition, 0)
        settings = _settings(cell)
        if condition.key == "automix_fast":
            assert settings.method.trained_mix_block == str(
                plan.Cell(source, CONDITIONS["automix"], 0).run / "export/mix_block.safetensors"
            )
            settings = replace(settings, method=AutoMixSettings())  # the Mix Block that it reads is not there
        networks = untrained_method_of(settings, 10).encoders()
        assert next(iter(networks)) == cell.network.name


def test_the_ablations_are_the_papers():
    """What each row of Tables 9 and 10 has and lacks."""

    def of(key):
        return _settings(plan.Cell(plan.SOURCES[0], CONDITIONS[key], 0)).method

    whole = of("automix")
    assert whole.gamma > 0
    assert of("lam_embedding") == replace(whole, gamma=0.0)
    assert of("cross_attention") == replace(whole, gamma=0.0, lam_embedding=False)
    assert of("no_ce") == replace(whole, one_hot_ce=False)
    assert of("momentum_zero") == replace(whole, one_hot_ce=False, momentum=0.0, momentum_end=0.0)
    assert of("no_momentum") == replace(whole, one_hot_ce=False, momentum=None)
    teacher = {"momentum": whole.momentum, "momentum_end": whole.momentum_end}
    for name in ("mixup", "cutmix"):
        assert of(f"{name}_mp") == replace(of(name), **teacher)
        assert of(f"{name}_mp_ce") == replace(of(name), **teacher, one_hot_ce=True)
    grids = of("random_grids")
    assert (grids.momentum, grids.momentum_end, grids.one_hot_ce) == (whole.momentum, whole.momentum_end, True)


def test_the_quick_part_is_a_part_of_the_whole_and_needs_nothing_outside():
    whole, quick = plan.cells(), plan.cells(quick=True)
    assert len(whole) == len(set(whole)) == 2 * 19 * 3
    assert set(quick) < set(whole)
    names = {cell.name for cell in quick}
    assert all(cell.needed is None or cell.needed.name in names for cell in quick)


def test_the_list_is_every_command(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["study.py", "--list", "--only", "scenes", "automix", "1"])
    assert study.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(shlex.split(line)[1 if line.startswith("python") else 0]).stem for line in lines] == [
        *("pretrain", "evaluate", "eval_wsol", "convert_to_mmdet", "finetune_mmdet")
    ]
    assert all((ROOT / shlex.split(line)[1 if line.startswith("python") else 0]).is_file() for line in lines)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Cells whose commands append their name to a file, and fail where told to."""
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(chain, "ROOT", tmp_path)
    order, bad, lock = [], set(), threading.Lock()

    def stages(cell):
        code = "raise SystemExit(3)" if cell.name in bad else f"open({cell.name!r} + '.txt', 'w')"
        word = ("python", "-c", code)
        data = chain.Stage("data", "data", ("python", "-c", "open('data.txt', 'a').write('x')"), Path("data.txt"))
        return [data, chain.Stage("train", "train", word, Path(f"{cell.name}.txt"), ("data",))]

    def write_record(cell):
        with lock:
            order.append(cell.name)
        path = tmp_path / records.RECORDS / f"{cell.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")

    monkeypatch.setattr(runner, "stages", stages)
    monkeypatch.setattr(runner, "write_record", write_record)
    monkeypatch.setattr(runner, "is_filled", lambda cell: (tmp_path / records.RECORDS / f"{cell.name}.json").is_file())
    return order, bad


def _cells(*keys):
    return [plan.Cell(plan.SOURCES[1], CONDITIONS[key], 0) for key in keys]


def test_a_cell_waits_for_the_one_whose_mix_block_it_reads_and_none_is_filled_twice(fake, tmp_path):
    order, _ = fake
    assert runner.fill(_cells("automix_fast", "automix", "mixup"), jobs=2) == 0
    assert order.index("digits-automix-0") < order.index("digits-automix_fast-0")
    assert len(order) == 3
    assert runner.fill(_cells("automix_fast", "automix", "mixup"), jobs=2) == 0
    assert len(order) == 3
    assert (tmp_path / "data.txt").read_text() == "x"


def test_a_failure_is_told_and_the_others_go_on(fake, capsys):
    order, bad = fake
    bad |= {"digits-automix-0"}
    assert runner.fill(_cells("automix", "automix_fast", "mixup"), jobs=1) == 2
    assert order == ["digits-mixup-0"]
    told = capsys.readouterr().err
    assert "digits-automix-0: stage 'train' ended with status 3" in told
    assert "work_dirs/study/digits/automix/seed0/commands.log" in told
    assert "digits-automix_fast-0: left out, since it needs digits-automix-0, which is not filled" in told
    bad.clear()
    assert runner.fill(_cells("automix", "automix_fast", "mixup"), jobs=1) == 0
    assert order == ["digits-mixup-0", "digits-automix-0", "digits-automix_fast-0"]


def test_a_cell_that_was_trained_with_other_settings_is_filled_anew(fake, tmp_path, monkeypatch, capsys):
    order, bad = fake
    [cell] = _cells("mixup")
    bad.add(cell.name)
    assert runner.fill([cell], jobs=1) == 1  # begun: its commands were the same, and failed
    left = tmp_path / cell.folder / "state.pth.of.before"
    left.touch()
    assert runner.fill([cell], jobs=1) == 1
    assert left.exists()
    bad.clear()  # now the command is another one
    assert runner.fill([cell], jobs=1) == 0
    assert not left.exists()
    assert order == [cell.name]
    assert f"{cell.name}: trained with other settings before; filled anew" in capsys.readouterr().err


def _record(condition, seed, top1, seconds=10.0, source="digits", **evaluation):
    branch = "teacher" if CONDITIONS[condition].has_teacher else "model"
    measured = {
        "ece": 1.0,
        "fgsm_error": 50.0,
        "mixed": {"mixup": {"mixed_acc2": 10.0, "lambda_0.5": {"mixed_acc2": 30.0}}},
        **evaluation,
    }
    accuracy = {f"{branch}_top1": top1, f"{branch}_top5": 99.0}
    if branch == "teacher":
        accuracy["student_top1"] = top1 - 1
    return records.Record(
        *(source, condition, seed, "0" * 16, "2026-11-27 10:00", {}, branch, 1000, seconds, accuracy),
        curve=[[10, 1.0, top1]],
        last={"total": 1.0, "lam_error": 0.125},
        evaluation=measured,
        mask_spread=0.25 if condition == "automix" else None,
    )


def test_tables_have_means_sample_deviations_and_seeds():
    """By hand: 90, 92, 94 have mean 92 and sample deviation 2; 95 and 97 have 96 and the root of 2."""
    found = [_record("vanilla", seed, top1) for seed, top1 in enumerate((90.0, 92.0, 94.0))]
    found += [_record("automix", seed, top1, 30.0) for seed, top1 in enumerate((95.0, 97.0))]
    lines = tables.main_table(found, plan.SOURCES[1]).splitlines()
    assert lines[2] == "| Vanilla | 3 | 92.0 ± 2.0 | 1.0 ± 0.0 | 50.0 ± 0.0 | 30.0 ± 0.0 | – | 10 | 1.0 |"
    assert lines[3].startswith("| AutoMix | 2 of 3 | 96.0 ± 1.4 |")
    assert lines[3].endswith("| 30 | 3.0 |")
    assert len(lines) == 4
    ablation = tables.ablation_table(found, 10)
    assert "| Mix Block, + MP + CE | 67.33 | – (0 of 3) | 96.0 ± 1.4 (2 of 3) |" in ablation
    assert "MixUp" not in ablation
    assert "| AutoMix | 2 of 3 | 96.0 ± 1.4 | 95.0 ± 1.4 | 12.5 ± 0.0 | 25.0 ± 0.0 |" in tables.networks_table(
        found, plan.SOURCES[1]
    )


def test_the_tests_of_the_table_are_welchs_with_holms_correction():
    """Two groups of three with means 92 and 96 and deviations 2: t = 2.449, 4 degrees of freedom, p = 0.0705."""
    found = [_record("vanilla", seed, top1) for seed, top1 in enumerate((90.0, 92.0, 94.0))]
    found += [_record("automix", seed, top1) for seed, top1 in enumerate((94.0, 96.0, 98.0))]
    assert tables.test_table(found, plan.SOURCES[1]).splitlines()[2:] == [
        "| Vanilla | +4.0 | -0.5 to +8.5 | 0.070 | 0.070 | no difference shown |"
    ]
    found += [_record("mixup", seed, top1) for seed, top1 in enumerate((70.0, 70.1, 70.2))]
    rows = tables.test_table(found, plan.SOURCES[1]).splitlines()[2:]
    assert rows[0].endswith("| 0.070 | 0.070 | no difference shown |")  # the larger p keeps its value
    assert rows[1].startswith("| MixUp | +25.9 |")
    assert rows[1].endswith("| higher |")


def test_records_come_back_as_they_were_written_and_odd_ones_are_named(tmp_path):
    record = _record("automix", 2, 96.0)
    chain.write_json(tmp_path / f"{record.name}.json", records.asdict(record))
    assert records.read_records(tmp_path) == [record]
    lines = tmp_path / "records.jsonl"
    lines.write_text(records.dumps([replace(record, seed=1), record, _record("vanilla", 0, 90.0)]))
    assert [r.name for r in records.read_records(lines)] == [
        *("digits-vanilla-0", "digits-automix-1", "digits-automix-2")
    ]
    chain.write_json(tmp_path / "odd.json", {"source": "digits"})
    with pytest.raises(UserError, match=r"odd\.json: not a record of the study"):
        records.read_records(tmp_path)
    chain.write_json(tmp_path / "odd.json", {**records.asdict(record), "condition": "dropped"})
    with pytest.raises(UserError, match=r"odd\.json: the study has no such cell any more; remove it"):
        records.read_records(tmp_path)


def test_a_page_has_its_blocks_filled_and_keeps_the_rest():
    page = "Before\n<!-- table: digits -->\nold\n<!-- end -->\nbetween\n<!-- table: table-9 --><!-- end -->\n"
    page = page.replace("--><!-- end", "-->\n<!-- end")
    filled = report.fill_blocks(page, {"digits": "NEW", "table-9": "NINE"})
    assert filled == (
        "Before\n<!-- table: digits -->\n\nNEW\n\n<!-- end -->\nbetween\n"
        "<!-- table: table-9 -->\n\nNINE\n\n<!-- end -->\n"
    )
    assert report.fill_blocks(filled, {"digits": "NEW", "table-9": "NINE"}) == filled
    with pytest.raises(UserError, match="a block 'table-9'; there are tables for digits"):
        report.fill_blocks(page, {"digits": "NEW"})


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_signal_ends_what_is_under_way_and_starts_nothing_more(tmp_path, number, whole_group):
    """Ctrl-C reaches the group of a terminal, SIGTERM this process alone; the commands hear of both."""
    code = f"""
import pathlib, signal, sys, time
def clean(*_):
    pathlib.Path({str(tmp_path / "cleaned")!r}).touch()
    sys.exit(130)
signal.signal(signal.SIGINT, clean)
signal.signal(signal.SIGTERM, clean)
pathlib.Path({str(tmp_path / "begun")!r}).touch()
time.sleep(60)
"""
    driver = f"""
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started with SIGINT ignored
sys.path.insert(0, {str(ROOT / "tools")!r})
from evidence import stages as chain
from evidence.paper import cells_of
from evidence.study import plan, runner
runner.ROOT = chain.ROOT = pathlib.Path({str(tmp_path)!r})
runner.is_filled = lambda cell: False
data = chain.Stage("data", "data", ("python", "-c", "open('data', 'w')"), pathlib.Path("data"))
train = chain.Stage("train", "train", ("python", "-c", {code!r}), pathlib.Path("none"))
runner.stages = lambda cell: [data, train]
runner.fill([plan.Cell(plan.SOURCES[1], plan.BY_KEY[key], 0) for key in ("vanilla", "mixup", "cutmix")], jobs=1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", driver], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert (tmp_path / "cleaned").exists()
    assert "stopping: the commands under way save their state" in told
    assert not (tmp_path / "work_dirs/study/digits/mixup").exists()


def test_every_row_of_tables_9_and_10_has_its_condition():
    cells = {
        table: {(c.row, c.column) for c in cells_of(table) if c.column.startswith(tables.COLUMN)} for table in (9, 10)
    }
    for table, conditions in ((9, tables.TABLE_9), (10, tables.TABLE_10)):
        assert {(row, f"{tables.COLUMN}/{method}".rstrip("/")) for row, method in conditions} == cells[table]
        assert set(conditions.values()) <= set(CONDITIONS)
