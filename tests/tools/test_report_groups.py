"""Runs behind a report: which are averaged, how they are named, compared and drawn, and the command that makes them."""

import argparse
import json
import math
import shlex
from dataclasses import asdict

import pytest
from made_runs import ROOT, groups_of, write_log, write_run
from mmengine.config import DictAction
from scipy import stats

from evidence.curves import POINTS, colours_of, curves_of, draw_cost, draw_losses, draw_validation, mean_curve
from evidence.groups import compare
from evidence.page import summarise
from evidence.records import command_of, read_records
from pretrain.training.settings import load_settings


def test_seeds_are_averaged_and_tested(tmp_path):
    vanilla, automix = (70.0, 70.4, 70.8), (72.0, 72.2, 72.7)
    for seed in range(3):
        write_run(tmp_path / f"s{seed}/vanilla", "vanilla", seed, vanilla[seed], 100.0)
        write_run(tmp_path / f"s{seed}/automix", "automix", seed, automix[seed], 300.0 + seed, {"student": 60.0 + seed})
        write_run(tmp_path / f"s{seed}/mixup", "mixup", seed, vanilla[2 - seed] + 0.1 * seed)
    groups = groups_of(tmp_path)
    assert [(group.label, len(group.records)) for group in groups] == [("AutoMix", 3), ("MixUp", 3), ("Vanilla", 3)]
    assert groups[0].networks == ["teacher", "student"]
    assert groups[0].accuracy("student", 5).values == (70.0, 71.0, 72.0)
    assert groups[0].seconds == 301.0
    assert groups[0].images_per_second == pytest.approx(32 * 100 * (1 / 300 + 1 / 301 + 1 / 302) / 3)

    [comparison] = compare(groups)
    assert comparison.reference.label == "Vanilla"  # the only one, though not the first
    ours, mixup = comparison.differences
    p = stats.ttest_ind(automix, vanilla, equal_var=False).pvalue
    assert ours.points == pytest.approx(1.9)
    assert ours.test.p == pytest.approx(p)
    assert ours.p_holm == pytest.approx(2 * p)  # the smaller of two tests
    assert (ours.verdict, ours.other_settings) == ("higher", ())
    assert mixup.verdict == "no difference shown"
    said = summarise(groups, [comparison])
    assert said[0].startswith("Of 3 settings AutoMix has the highest top-1 accuracy, 72.30 ± 0.36 %, 1.90 points above")
    assert "It took 3.0 times as long" in said[0]
    assert "seed" not in said[0]


def test_one_seed_shows_nothing_and_says_so(tmp_path):
    write_run(tmp_path / "a/automix", "automix", 0, 80.0)
    write_run(tmp_path / "a/vanilla", "vanilla", 0, 70.0)
    write_run(tmp_path / "b/vanilla", "vanilla", 1, 71.0)
    groups = groups_of(tmp_path)
    [comparison] = compare(groups)
    [difference] = comparison.differences
    assert (difference.test, difference.verdict) == (None, "no test: one seed only")
    assert math.isnan(difference.p_holm)
    assert "AutoMix has one seed only" in summarise(groups, [comparison])[0]


def test_what_may_not_be_averaged_is_not(tmp_path):
    write_run(tmp_path / "short/vanilla", "vanilla", 0)
    write_run(tmp_path / "long/vanilla", "vanilla", 0, **{"optim.epochs": 8})
    write_run(tmp_path / "again/vanilla", "vanilla", 0, **{"data.workers": 7})  # decides nothing: the same run again
    write_run(tmp_path / "seed_1/vanilla", "vanilla", 1, **{"run.log_every": 7})
    write_run(tmp_path / "digits/vanilla", "vanilla", 0, 99.0, **{"data.root": "digits"})
    labels = {g.label: sorted(r.folder.parent.name for r in g.records) for g in groups_of(tmp_path)}
    assert labels == {
        "Vanilla (again)": ["again", "seed_1"],
        "Vanilla (digits)": ["digits"],
        "Vanilla (long)": ["long"],
        "Vanilla (short)": ["short"],
    }
    write_run(tmp_path / "other/short/vanilla", "vanilla", 0)
    twice = [tmp_path / "short/vanilla", tmp_path / "other/short/vanilla"]
    assert [group.label for group in groups_of(*twice)] == [f"Vanilla (short), {folder}" for folder in twice]
    groups = groups_of(*(tmp_path / name for name in ("short", "long", "digits")))
    assert [group.label for group in groups] == [
        *("Vanilla (root work_dirs/quickstart/data/classification, epochs 5)",),
        *("Vanilla (root work_dirs/quickstart/data/classification, epochs 8)", "Vanilla (root digits, epochs 5)"),
    ]
    [comparison] = compare(groups)  # the digits are alone with their data
    assert comparison.differences[0].other_settings == ("optim.epochs",)
    assert "differ too" in summarise(groups, [comparison])[0]
    assert summarise(groups, [comparison])[1].startswith("Vanilla (root digits, epochs 5): 99.00 % top-1 (one seed)")


def test_curves_of_seeds_and_long_runs(tmp_path):
    for seed, top1 in ((0, 60.0), (1, 70.0)):
        write_run(tmp_path / f"{seed}/vanilla", "vanilla", seed, top1)
    [group] = groups_of(tmp_path)
    curves = list(curves_of(group, "model_top1"))
    x, y = mean_curve(curves)
    assert (x[-1], y[-1], y[0]) == (100, 65.0, 6.5)
    assert mean_curve(curves[:1]) is None
    assert mean_curve([curves[0], (x[:3], y[:3])]) is None  # one was stopped: no mean of what is not there
    assert [len(x) for x, _ in curves_of(group, "model_top1", first=50)] == [6, 6]
    widths = sorted(line.get_linewidth() for line in draw_losses([group]).axes[0].lines if len(line.get_xdata()))
    assert widths == [0.6, 0.6, 1.8]
    by_time = draw_validation([group]).axes[1].lines[0]
    assert by_time.get_xdata()[-1] == 100.0  # seconds
    longer = groups_of(write_run(tmp_path / "longer/vanilla", "vanilla", 0, seconds=1200.0))
    by_time = draw_validation(longer).axes[1]
    assert (by_time.get_xlabel(), by_time.lines[0].get_xdata()[-1]) == ("training time (min)", 100 / 60)

    lines = [{"step": step, "ce": float(step)} for step in range(1, 1001)]
    (tmp_path / "0/vanilla/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    [(x, y)] = curves_of(groups_of(tmp_path / "0")[0], "ce")
    assert len(x) <= POINTS
    assert (x[0], x.tolist()) == (2.0, y.tolist())  # the first three steps' mean; here a loss is its step


def test_every_group_has_its_colour(tmp_path):
    for epochs in range(5, 15):
        write_run(tmp_path / f"{epochs}/vanilla", "vanilla", 0, **{"optim.epochs": epochs})
    write_run(tmp_path / "5/automix", "automix", 0)
    colours = colours_of(groups_of(tmp_path))
    assert len(set(colours.values())) == len(colours) == 11


def test_the_command_makes_these_settings_again(tmp_path):
    changes = {"optim.epochs": 40, "data.transform.scale": [0.25, 1.0], "method.gamma": 0.5}
    folder = write_run(tmp_path / "run 1/automix", "automix", 2, **changes)
    [record] = read_records([folder])[0]
    command = command_of(record)
    words = shlex.split(command)
    assert words[:6] == [
        *("tools/pretrain.sh", "configs/quickstart/pretrain.py", "--method", "automix", "--work-dir"),
        str(tmp_path / "run 1"),
    ]
    assert set(words[7:]) == {"data.transform.scale=[0.25,1.0]", "method.gamma=0.5", "optim.epochs=40", "run.seed=2"}
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    options = parser.parse_args(words[6:]).cfg_options
    assert json.loads(json.dumps(asdict(load_settings(ROOT / words[1], options, "automix")))) == record.settings

    content = json.loads((folder / "result.json").read_text())
    content["settings"]["optim"]["forgotten"] = 1
    (folder / "result.json").write_text(json.dumps(content))
    assert command_of(read_records([folder])[0][0]) is None  # of another version
    (folder / "result.json").write_text(json.dumps({**content, "name": "study"}))
    assert command_of(read_records([folder])[0][0]) is None  # no such config here


def test_accuracy_against_time_has_a_point_for_each_finished_method(tmp_path):
    write_run(tmp_path / "v0", top1=70.0, seconds=60.0)
    assert draw_cost(groups_of(tmp_path)) is None  # one method is no comparison
    for seed, top1 in enumerate((80.0, 84.0)):
        write_run(tmp_path / f"a{seed}", "automix", seed, top1, seconds=180.0)
    write_log(tmp_path / "unfinished", 50.0)
    axes = draw_cost(groups_of(tmp_path)).axes[0]
    assert "min" in axes.get_xlabel()
    points = sorted(tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() not in ("_", "None"))
    assert points == [(1.0, 70.0), (3.0, 82.0)]
    assert {"automix", "vanilla"} <= {text.get_text() for text in axes.texts}
