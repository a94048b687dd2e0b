"""The study: its cells are commands that exist, compare equal steps, and are filled in order; a failure is told."""

import os
import re
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
from evidence.study import plan, records, runner
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
        assert (s.run.seed, s.optim.epochs) == (1, {"scenes": 200, "digits": 500}[source.key])
        seen[condition.key] = (s.optim, s.data, s.backbone, replace(s.run, seed=0))
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
    assert len(whole) == len(set(whole)) == 2 * 17 * 3
    assert set(quick) < set(whole)
    names = {cell.name for cell in quick}
    assert all(cell.needed is None or cell.needed.name in names for cell in quick)


def test_what_is_measured_is_the_cells_own_network_with_the_cells_seed():
    cell = plan.Cell(plan.SOURCES[0], CONDITIONS["automix"], 2)
    commands = {stage.name: stage.command for stage in plan.stages(cell)}
    network = "work_dirs/study/scenes/automix/seed2/automix/export/teacher.safetensors"
    assert all(network in commands[name] for name in ("evaluate", "wsol", "convert"))
    detect = commands["detect"]
    assert detect[detect.index("--seed") + 1] == "2"
    assert detect[detect.index("--weights") + 1] == commands["convert"][3]


def test_the_list_is_every_command(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["study.py", "--list", "--only", "scenes", "automix", "1"])
    assert study.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(shlex.split(line)[1 if line.startswith("python") else 0]).stem for line in lines] == [
        *("study", "pretrain", "evaluate", "eval_wsol", "convert_to_mmdet", "finetune_mmdet")
    ]
    assert all((ROOT / shlex.split(line)[1 if line.startswith("python") else 0]).is_file() for line in lines)


def _call(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["study.py", *map(str, words)])
    return study.main()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "mixip"], "--only mixip: no cell has this word in its name; did you mean 'mixup'"),
        (["--only", "mixup", "cutmix"], "--only mixup cutmix: no cell has all these words in its name; give at most"),
        (["--quick", "--only", "no_ce"], "--only no_ce: no cell has this word"),
        (["--records", "x"], "--records says what --report reads or fills; give it together with --report"),
        (["--list", "--page", "x"], "--page says what --report reads or fills"),
        (["--report", "--only", "mixup"], "--only chooses cells to fill or to list; --report"),
        (["--prepare", "--quick"], "--quick chooses cells to fill or to list"),
    ],
)
def test_options_that_make_no_sense_are_told_and_nothing_begins(monkeypatch, words, message):
    monkeypatch.setattr(runner, "fill", lambda *_: pytest.fail("began"))
    with pytest.raises(UserError, match=re.escape(message)):
        _call(monkeypatch, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--list", "--report"], "not allowed with argument --list"),
        (["--jobs", "0"], "--jobs: a whole number of 1 or more is needed, not 0"),
        (["--jobs", "-1"], "--jobs: a whole number of 1 or more is needed, not -1"),
    ],
)
def test_what_the_command_line_refuses(monkeypatch, capsys, words, message):
    monkeypatch.setattr(runner, "fill", lambda *_: pytest.fail("began"))
    with pytest.raises(SystemExit):
        _call(monkeypatch, *words)
    assert message in capsys.readouterr().err


def test_a_cell_may_be_chosen_by_its_whole_name(monkeypatch, capsys):
    assert _call(monkeypatch, "--list", "--only", "digits-automix_fast-2") == 0
    prepare, train, _ = capsys.readouterr().out.splitlines()
    assert prepare == "python tools/prepare_digits.py --out work_dirs/study/data/digits"
    assert train.endswith(
        "method.trained_mix_block=work_dirs/study/digits/automix/seed2/automix/export/mix_block.safetensors"
    )
    assert "method.preset=fast run.seed=2" in train


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
    assert runner.fill(_cells("cutmix"), jobs=2) == 0
    assert len(order) == 4
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


def test_a_record_without_fingerprint_or_with_another_is_not_of_a_filled_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    [cell] = _cells("mixup")
    path = tmp_path / records.RECORDS / f"{cell.name}.json"
    seen = []
    for content in (None, {}, [], {"fingerprint": "0" * 16}, {"fingerprint": records.fingerprint_of(cell)}):
        if content is not None:
            chain.write_json(path, content)
        seen.append(runner.is_filled(cell))
    assert seen == [False, False, False, False, True]


def test_a_command_that_was_stopped_by_itself_stops_the_others(fake, tmp_path, monkeypatch):
    """As by kill -INT of one training: nothing new begins, the others save their state, and the status is 130."""
    order, _ = fake
    monkeypatch.setattr(
        runner,
        "stages",
        lambda cell: [
            chain.Stage("data", "data", ("python", "-c", "open('data.txt', 'w')"), Path("data.txt")),
            chain.Stage(
                "train",
                "train",
                ("python", "-c", "import time, pathlib; pathlib.Path('begun').touch(); time.sleep(600)")
                if cell.condition.key == "mixup"
                else (
                    *("python", "-c"),
                    "import time, pathlib\nwhile not pathlib.Path('begun').exists(): time.sleep(0.05)\n"
                    "raise SystemExit(130)",
                ),
                Path("never"),
            ),
        ],
    )
    started = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        runner.fill(_cells("mixup", "cutmix", "vanilla"), jobs=2)
    assert ended.value.code == 130
    assert time.monotonic() - started < 300
    assert not order
    assert not (tmp_path / plan.WORK / "digits/vanilla").exists()


def test_a_cell_that_is_to_stop_begins_no_command(fake, tmp_path):
    order, _ = fake
    [cell] = _cells("mixup")
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(SystemExit):
        runner._fill(cell, stopping)
    assert not order
    assert not (tmp_path / f"{cell.name}.txt").exists()


def test_of_a_filled_cell_the_large_files_go(fake, tmp_path):
    [cell] = _cells("mixup")
    folder, run = tmp_path / cell.folder, tmp_path / cell.run
    names = ["state.pth", "state.previous.pth", "export/model.safetensors"]
    for path in [*(run / name for name in names), folder / "mmdet.pth", folder / "detection/iter_9.pth"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (run / "state.sharded.pth").mkdir()
    assert runner.fill([cell], jobs=1) == 0
    assert sorted(path.name for path in folder.rglob("*") if path.suffix in (".pth", ".safetensors")) == [
        "model.safetensors"
    ]


def test_commands_that_were_done_are_not_done_again_after_one_failed(fake, tmp_path, monkeypatch):
    """The tests of the chain are in test_quickstart.py; here: that a cell's own commands go through it."""
    [cell] = _cells("mixup")
    own = runner.stages(cell)
    code = "import os; assert os.environ['OMP_NUM_THREADS'] == '1'; open('first.txt', 'a').write('x')"
    first = chain.Stage("train", "train", ("python", "-c", code), Path("first.txt"))
    last = chain.Stage("evaluate", "evaluate", ("python", "-c", "open('go'); open('last.txt', 'w')"), Path("last.txt"))
    monkeypatch.setattr(runner, "stages", lambda cell: [own[0], first, last])
    assert runner.fill([cell], jobs=1) == 1
    (tmp_path / "go").touch()
    assert runner.fill([cell], jobs=1) == 0
    assert (tmp_path / "first.txt").read_text() == "x"


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
    told = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert (tmp_path / "cleaned").exists()
    assert "stopping: the commands under way save their state" in told
    assert not (tmp_path / "work_dirs/study/digits/mixup").exists()
