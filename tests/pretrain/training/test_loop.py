"""The loop: what it writes, that a killed run goes on bit for bit, and what it refuses."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from pretrain import load_backbone
from pretrain.console import UserError
from pretrain.training import loop
from pretrain.training.devices import launch_fabric
from pretrain.training.logbook import read_log
from pretrain.training.loop import train
from pretrain.training.results import last_epochs
from pretrain.training.settings import load_settings


@pytest.fixture
def fabric():
    return launch_fabric("32-true")


def _weights(folder):
    return {path.stem: load_file(path) for path in sorted((folder / "export").glob("*.safetensors"))}


def test_a_run_learns_and_leaves_what_the_next_rooms_read(config, tmp_path, fabric):
    settings = load_settings(config, {"optim.epochs": 8}, method="vanilla")
    result = train(settings, tmp_path / "run", resume=False, fabric=fabric)
    assert result["accuracy"]["model_top1"] > 60  # three classes told apart by brightness; chance is 33
    assert result["steps"] == 8 * (33 // 8)

    model, card = load_backbone(tmp_path / "run/export/model")
    assert card.classes == ("class0", "class1", "class2")
    assert card.metrics["top1"] == result["accuracy"]["model_top1"]
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    entries = read_log(tmp_path / "run")
    assert [e["step"] for e in entries if "total" in e] == list(range(1, 33))
    # The cosine goes from lr to 0: the rate at step t is lr (1 + cos(pi t / T)) / 2.
    assert entries[8]["lr"] == pytest.approx(0.02 * (1 + math.cos(math.pi * (entries[8]["step"] - 1) / 32)) / 2)


def test_a_run_with_the_mix_block_of_another(config, tmp_path, fabric):
    """Preset "fast": from the export of one run to the next; the frozen pair stays where it is."""
    train(load_settings(config, {"optim.epochs": 1}), tmp_path / "full", resume=False, fabric=fabric)
    block = tmp_path / "full/export/mix_block.safetensors"
    changes = {"optim.epochs": 2, "method.preset": "fast", "method.trained_mix_block": str(block), "run.seed": 1}
    train(load_settings(config, changes), tmp_path / "fast", resume=False, fabric=fabric)
    assert sorted(_weights(tmp_path / "full")) == ["mix_block", "student", "teacher"]
    assert sorted(_weights(tmp_path / "fast")) == ["student", "teacher"]
    entries = [entry for entry in read_log(tmp_path / "fast") if "total" in entry]
    assert all(entry["ce"] > 0 and entry["mixed_ce"] > 0 for entry in entries)
    assert all(entry["generation_ce"] == entry["mask_ratio"] == 0 for entry in entries)
    assert (tmp_path / "fast/mixes/epoch_0002.png").is_file()


def test_workers_do_not_change_the_run(config, tmp_path, fabric):
    for workers in (0, 2):
        settings = load_settings(config, {"data.workers": workers, "optim.epochs": 1}, method="cutmix")
        train(settings, tmp_path / str(workers), resume=False, fabric=fabric)
    a, b = (_weights(tmp_path / str(workers))["model"] for workers in (0, 2))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_finished_run_is_not_trained_again(config, tmp_path, fabric, monkeypatch):
    settings = load_settings(config, {"optim.epochs": 1}, method="vanilla")
    first = train(settings, tmp_path / "run", resume=True, fabric=fabric)
    monkeypatch.setattr(loop.Run, "_step", None)
    assert train(settings, tmp_path / "run", resume=True, fabric=fabric) == first


def test_refusals(config, tmp_path, fabric):
    settings = load_settings(config, {"optim.epochs": 1}, method="vanilla")
    train(settings, tmp_path / "run", resume=False, fabric=fabric)
    with pytest.raises(UserError, match="a run is here already; add --resume auto"):
        train(settings, tmp_path / "run", resume=False, fabric=fabric)
    other = load_settings(config, {"optim.epochs": 2}, method="vanilla")
    with pytest.raises(UserError, match="optim.epochs was 1, is 2"):
        train(other, tmp_path / "run", resume=True, fabric=fabric)
    (tmp_path / "run/state.pth").write_bytes(b"half a file")
    with pytest.raises(UserError, match="not a whole training state"):
        train(settings, tmp_path / "run", resume=True, fabric=fabric)
    with pytest.raises(UserError, match="exceeds the 33 training images"):
        train(load_settings(config, {"data.batch_size": 64}), tmp_path / "big", resume=False, fabric=fabric)


@pytest.mark.parametrize(("epochs", "expected"), [(4, 4.0), (30, 29.0), (100, 95.5), (300, 295.5)])
def test_the_result_is_the_median_of_the_last_epochs(tmp_path, epochs, expected):
    lines = [
        json.dumps({"step": epoch, "epoch": epoch, "model_top1": float(epoch), "model_top5": 0.0})
        for epoch in range(1, epochs + 1)
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    assert last_epochs(tmp_path, epochs, ["model"])["model_top1"] == expected


def test_a_log_cut_short_by_a_kill_is_read(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "to')
    assert read_log(tmp_path) == [{"step": 1}]
    (tmp_path / "log.jsonl").write_text('{"step": 1, "to\n' + json.dumps({"step": 2}) + "\n")
    with pytest.raises(UserError, match="line 1 is damaged"):
        read_log(tmp_path)
