"""The quickstart's stages: each done once, stopped with a sentence, and made of commands that exist."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import report
import stages

from evidence import stages as chain
from pretrain.console import UserError

ROOT = Path(__file__).parents[2]


def _stage(tmp_path, name, code, needs=()):
    """Return a stage that appends a line to NAME.txt by the given Python statement."""
    return chain.Stage(name, name, ("python", "-c", code), tmp_path / f"{name}.txt", needs)


def _append(tmp_path, name, word="x"):
    return f"open({str(tmp_path / name) + '.txt'!r}, 'a').write({word!r})"


def test_a_stage_is_done_once_and_again_when_what_it_needs_changes(tmp_path):
    first = _stage(tmp_path, "first", _append(tmp_path, "first"))
    second = _stage(tmp_path, "second", _append(tmp_path, "second"), ("first",))
    chain.run([first, second], tmp_path / "records")
    chain.run([first, second], tmp_path / "records")
    assert ((tmp_path / "first.txt").read_text(), (tmp_path / "second.txt").read_text()) == ("x", "x")

    changed = _stage(tmp_path, "first", _append(tmp_path, "first", "y"))
    chain.run([changed, second], tmp_path / "records")
    assert ((tmp_path / "first.txt").read_text(), (tmp_path / "second.txt").read_text()) == ("xy", "xx")

    (tmp_path / "second.txt").unlink()  # what a stage makes is gone: its record counts no longer
    chain.run([changed, second], tmp_path / "records")
    assert (tmp_path / "second.txt").read_text() == "x"


def test_a_failure_names_the_stage_and_keeps_what_was_done(tmp_path):
    good = _stage(tmp_path, "good", _append(tmp_path, "good"))
    bad = _stage(tmp_path, "bad", "raise SystemExit(3)")
    with pytest.raises(UserError, match=r"stage 'bad' ended with status 3; .* type the same command again"):
        chain.run([good, bad], tmp_path / "records")
    idle = _stage(tmp_path, "idle", "pass")
    with pytest.raises(UserError, match=r"stage 'idle' left no .*idle\.txt"):
        chain.run([good, idle], tmp_path / "records")
    assert (tmp_path / "good.txt").read_text() == "x"


def test_ctrl_c_in_a_stage_stops_all(tmp_path):
    stopped = _stage(tmp_path, "stopped", "raise SystemExit(130)")
    with pytest.raises(SystemExit) as ended:
        chain.run([stopped, _stage(tmp_path, "late", _append(tmp_path, "late"))], tmp_path / "records")
    assert ended.value.code == 130
    assert not (tmp_path / "late.txt").exists()


def test_the_command_that_ctrl_c_reaches_may_end_its_work(tmp_path):
    """As on a terminal, SIGINT goes to the whole group; the command needs longer than subprocess would give it."""
    code = f"""
import time, pathlib
try:
    print("ready", flush=True)  # in here: the signal may come as soon as it is out
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    pathlib.Path({str(tmp_path / "cleaned.txt")!r}).touch()
    raise SystemExit(130)
"""
    driver = f"""
import sys, pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started with SIGINT ignored
sys.path.insert(0, {str(ROOT / "tools")!r})
from evidence import stages
stage = stages.Stage("s", "s", ("python", "-c", {code!r}), pathlib.Path("none"))
stages.run([stage], pathlib.Path({str(tmp_path)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=300) == 130
    assert (tmp_path / "cleaned.txt").is_file()


def test_the_seconds_of_a_stage_count_over_all_sittings(tmp_path):
    moody = (
        f"import pathlib, time; time.sleep(0.3); p = pathlib.Path({str(tmp_path / 'moody.txt')!r}); "
        f"q = pathlib.Path({str(tmp_path / 'begun')!r}); p.touch() if q.exists() else (q.touch(), exit(130))"
    )
    stage = _stage(tmp_path, "moody", moody)
    with pytest.raises(SystemExit):
        chain.run([stage], tmp_path)
    assert json.loads((tmp_path / "moody.json").read_text())["done"] is False
    chain.run([stage], tmp_path)
    record = json.loads((tmp_path / "moody.json").read_text())
    assert record["done"] is True
    assert record["seconds"] >= 0.6  # it slept twice


def test_commands_name_tools_and_configs_that_exist():
    plan = stages.plan()
    for stage in plan:
        named = [word for word in stage.command if word.startswith(("tools/", "configs/"))]
        assert named
        assert all((ROOT / word).is_file() for word in named)
        earlier = [other.name for other in plan[: plan.index(stage)]]
        assert set(stage.needs) <= set(earlier)
    done = subprocess.run(
        [sys.executable, "tools/quickstart", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [shlex.join(stage.command) for stage in plan]


def test_a_report_without_results_names_the_first_that_is_missing(tmp_path):
    with pytest.raises(UserError, match=rf"^{tmp_path}/pretrain/automix/result\.json: no such file$"):
        report.write_report(tmp_path, stages.plan())
    assert not (tmp_path / "report.html").exists()


def test_a_stage_is_done_again_when_a_value_of_its_config_changes_but_not_its_note(tmp_path, monkeypatch):
    """The values of the configs that it inherits from count too; comments and docstrings of Python files do not."""
    monkeypatch.setattr(chain, "ROOT", tmp_path)
    (tmp_path / "configs").mkdir()
    base, config = tmp_path / "configs/base.py", tmp_path / "configs/own.py"
    yaml_base, yaml = tmp_path / "configs/base.yaml", tmp_path / "configs/own.yaml"

    def prints():
        words = ("python", "-c", "pass", "configs/own.py", "--method", "own", "configs/own.yaml")
        return chain.fingerprints([chain.Stage("own", "own", words, Path("none"))])["own"]

    base.write_text('"""A note."""\nlr = 0.1\n')
    config.write_text('"""A note."""\n_base_ = ["base.py"]\nepochs = 3  # why\n')
    yaml_base.write_text("LR: 0.1\n")
    yaml.write_text("_BASE_: base.yaml\nSTEPS: 3\n")
    before = prints()
    config.write_text('"""Another note."""\n\n_base_ = ["base.py"]\nepochs = 3\n')
    assert prints() == before
    base.write_text("lr = 0.1\nmethods = dict(other=dict(alpha=1.0), own=dict(alpha=1.0))\n")
    with_methods = prints()
    base.write_text("lr = 0.1\nmethods = dict(other=dict(alpha=2.0), own=dict(alpha=1.0))\n")
    assert prints() == with_methods  # the command names another method
    seen = {before, with_methods}
    for path, text in (
        (base, "lr = 0.1\nmethods = dict(other=dict(alpha=2.0), own=dict(alpha=2.0))\n"),
        (config, '_base_ = "base.py"\nepochs = 4\n'),
        (base, "lr = 0.2\n"),
        (yaml, "_BASE_: base.yaml\nSTEPS: 4\n"),
        (yaml_base, "LR: 0.2\n"),
    ):
        path.write_text(text)
        seen.add(prints())
    assert len(seen) == 7


def test_seconds_of_a_time_that_was_done_or_had_another_command_do_not_count(tmp_path):
    stage = _stage(tmp_path, "own", _append(tmp_path, "own"))
    prints = chain.fingerprints([stage])["own"]
    for before in ({"fingerprint": prints, "done": True}, {"fingerprint": "another", "done": False}):
        chain.write_json(tmp_path / "own.json", {**before, "seconds": 1000.0})
        assert chain.do(stage, tmp_path, prints) < 500
    chain.write_json(tmp_path / "own.json", {"fingerprint": prints, "done": False, "seconds": 1000.0})
    assert chain.do(stage, tmp_path, prints) > 1000


def test_a_record_is_there_while_the_command_runs_and_all_that_it_says_goes_to_the_log(tmp_path):
    code = (
        f"import json, sys; before = json.load(open({str(tmp_path / 'own.json')!r})); assert before['done'] is False; "
        f"print('said'); print('warned', file=sys.stderr); {_append(tmp_path, 'own')}"
    )
    stage = _stage(tmp_path, "own", code)
    with (tmp_path / "log").open("w") as log:
        chain.do(stage, tmp_path, chain.fingerprints([stage])["own"], log)
    assert set((tmp_path / "log").read_text().split()) == {"said", "warned"}


def test_a_command_has_this_interpreter_and_one_that_a_signal_ended_counts_as_stopped(tmp_path):
    code = f"import os, sys; assert os.environ['PYTHON'] == sys.executable; {_append(tmp_path, 'own')}"
    chain.run([_stage(tmp_path, "own", code)], tmp_path)
    code = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
    with pytest.raises(SystemExit) as ended:
        chain.run([_stage(tmp_path, "killed", code)], tmp_path)
    assert ended.value.code == 130


def test_a_command_keeps_the_memory_that_it_frees_unless_the_user_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    code = f"import os; found = [os.environ.get(name) for name in {[*chain.ALLOCATOR]}]; "
    code += f"assert found == ['33554432', '7'], found; {_append(tmp_path, 'own')}"
    chain.run([_stage(tmp_path, "own", code)], tmp_path)
