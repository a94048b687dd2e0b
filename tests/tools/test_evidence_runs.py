"""Pretraining runs below folders: what is read, what is left out, and why."""

import json

import pytest

from evidence.runs import find_files, find_pretrain_runs
from pretrain.console import UserError

RESULT = {
    "name": "cifar100/r18_800ep",
    "method": "automix",
    "branch": "teacher",
    "accuracy": {"teacher_top1": 82.04, "teacher_top5": 95.5, "student_top1": 81.0, "student_top5": 95.0},
    "train_seconds": 12.5,
    "steps": 400_000,
    "images_per_second": 1.0,
    "environment": {"torch": "2.14"},
    "settings": {"run": {"seed": 7}, "optim": {"epochs": 800}},
}


def _write(folder, content=RESULT):
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("{}\n")
    (folder / "result.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_run_is_what_its_result_says_and_its_top1_is_of_the_result_s_network(tmp_path):
    _write(tmp_path / "seed_7" / "automix")
    [run], left_out = find_pretrain_runs([tmp_path])
    assert (run.config, run.method, run.branch, run.seed) == ("cifar100/r18_800ep", "automix", "teacher", 7)
    assert (run.top1, run.top5, run.seconds, run.steps) == (82.04, 95.5, 12.5, 400_000)
    assert (run.settings["optim"], run.environment) == ({"epochs": 800}, {"torch": "2.14"})
    assert (run.folder, left_out) == (tmp_path / "seed_7" / "automix", {})


def test_what_cannot_be_read_is_left_out_with_the_reason(tmp_path):
    _write(tmp_path / "good")
    (tmp_path / "going_on").mkdir()
    (tmp_path / "going_on" / "log.jsonl").write_text("{}\n")
    _write(tmp_path / "damaged", '{"name": ')
    _write(tmp_path / "other", {"score": 1})
    _write(tmp_path / "list", [1])
    runs, left_out = find_pretrain_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["good"]
    reasons = {folder.name: reason for folder, reason in left_out.items()}
    assert sorted(reasons) == ["damaged", "going_on", "list", "other"]
    assert reasons["going_on"] == "not finished: it has a log.jsonl and no result.json"
    assert "not valid JSON" in reasons["damaged"]
    assert reasons["other"] == "its result.json is not that of a pretraining run (KeyError: 'branch')"


def test_a_run_counts_once_however_many_folders_lead_to_it(tmp_path):
    _write(tmp_path / "a" / "run")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    runs, _ = find_pretrain_runs([tmp_path, tmp_path / "a", tmp_path / "b"])
    assert len(runs) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing: no such folder; name one that holds runs"):
        list(find_files([tmp_path / "nothing"], ("result.json",)))
