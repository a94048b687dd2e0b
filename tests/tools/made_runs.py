"""Folders as pretraining runs leave them, with figures that are known."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from evidence.groups import group_records
from evidence.records import read_records
from pretrain.training.settings import load_settings

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/quickstart/pretrain.py"


def run_settings(method="automix", seed=0, **changes):
    values = asdict(load_settings(CONFIG, {"run.seed": seed, **changes}, method))
    return json.loads(json.dumps(values))  # lists for tuples, as a result.json has them


def write_log(folder, top1, steps=100, networks=("model",), epochs=10):
    """Write a log of `epochs` epochs that climbs to `top1`."""
    folder.mkdir(parents=True, exist_ok=True)
    each = steps // epochs
    lines = []
    for epoch in range(1, epochs + 1):
        lines.append({"step": epoch * each, "lr": 0.1, "images_per_second": 50.0, "ce": 4.0 / epoch, "total": 1.0})
        measured = {f"{network}_top{k}": top1 * epoch / epochs for network in networks for k in (1, 5)}
        lines.append({"step": epoch * each, "epoch": epoch, "elapsed": 10.0 * epoch, **measured})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(folder, method="vanilla", seed=0, top1=70.0, seconds=100.0, others=None, **changes):
    """Write a finished run; `others` are the accuracies of its other networks."""
    settings = run_settings(method, seed, **changes)
    branch = "teacher" if method == "automix" else "model"
    accuracy = {f"{branch}_top1": top1, f"{branch}_top5": top1 + 10}
    for network, value in (others or {}).items():
        accuracy |= {f"{network}_top1": value, f"{network}_top5": value + 10}
    result = {"name": settings["name"], "method": method, "branch": branch, "accuracy": accuracy, "settings": settings}
    result |= {"train_seconds": seconds, "steps": 100, "images_per_second": 32.0}
    result |= {"environment": {"python": "3.11.7", "torch": "2.14.1", "device": "1 x cpu"}}
    write_log(folder, top1, networks=(branch, *(others or {})))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def write_unfinished(folder, state=None, method="automix"):
    folder.mkdir(parents=True)
    lines = [
        {"step": 20, "lr": 0.1, "ce": 4.0},
        {"step": 31, "epoch": 1, "elapsed": 2.0, "teacher_top1": 5.5, "teacher_top5": 20.0, "student_top1": 6.0},
        {"step": 62, "epoch": 2, "elapsed": 5.0, "teacher_top1": 12.25, "teacher_top5": 30.0, "student_top1": 11.0},
        {"step": 93, "epoch": 3, "elapsed": 7.0, "unreadable_images": 1.0},
        {"step": 100, "lr": 0.1, "ce": 3.0},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if state:
        torch.save({"step": 93, "settings": state, "method": {"weight": torch.zeros(4)}}, folder / "state.pth")
    return folder


def groups_of(*folders):
    return group_records(read_records(folders)[0])
