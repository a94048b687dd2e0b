"""What a run tells while it goes: logs, TensorBoard, W&B, looks at the mixing; and what stops it."""

import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.console import UserError
from pretrain.data.transforms import Normalise
from pretrain.evaluation.looks import find_looks, read_look
from pretrain.evaluation.mixed_accuracy import mixed_accuracy
from pretrain.evaluation.pictures import draw_masks_over_training
from pretrain.training import loop
from pretrain.training.checkpoint import FILE_NAME
from pretrain.training.devices import launch_fabric
from pretrain.training.inputs import Inputs
from pretrain.training.inspection import inspect_mixing
from pretrain.training.logbook import read_log
from pretrain.training.loop import train
from pretrain.training.methods import method_of
from pretrain.training.settings import load_settings


@pytest.fixture
def fabric():
    return launch_fabric("32-true")


def test_the_log_of_automix(config, tmp_path, fabric):
    settings = load_settings(config, {"optim.epochs": 4, "run.log_every": 2, "run.inspect_every": 2})
    train(settings, tmp_path, resume=False, fabric=fabric)
    entries = read_log(tmp_path)
    steps = [entry for entry in entries if "total" in entry]
    assert [entry["step"] for entry in steps] == list(range(2, 17, 2))
    for entry in steps:
        terms = ("ce", "mixed_ce", "generation_ce", "mask_ratio")
        assert entry["total"] == pytest.approx(sum(entry[term] for term in terms), abs=1e-5)
        assert 0 <= entry["lam_error"] <= 1
        assert 0 <= entry["lam_error_k"] <= 1
        assert entry["images_per_second"] > 0
    epochs = [entry for entry in entries if "epoch" in entry]
    assert all({"teacher_top1", "student_top1", "teacher_top5", "student_top5"} <= set(entry) for entry in epochs)
    assert [entry["epoch"] for entry in epochs if "mixed_acc1" in entry] == [1, 2, 4]
    for epoch in (1, 2, 4):
        with Image.open(tmp_path / f"mixes/epoch_{epoch:04d}.png") as picture:
            assert picture.width > 600
    assert [*find_looks(tmp_path)] == [1, 2, 4]
    assert len(list((tmp_path / "mixes").iterdir())) == 6


def test_a_look_keeps_the_images_and_the_masks_of_lambda_one_half(config, tmp_path, fabric):
    settings = load_settings(config, {})
    inputs = Inputs(settings, fabric)
    torch.manual_seed(0)
    method = method_of(settings, 3).train()
    method.mix_block.value.weight.data[:, -1] = 2  # of lambda; else the masks of all lambdas are nearly one half
    _, look = inspect_mixing(method, inputs.validation(), inputs.pairs, 3, 0, fabric)
    assert method.training
    look.save(tmp_path, 7)
    kept = read_look(tmp_path / "mixes/epoch_0007.safetensors")
    images = inputs.pairs()
    torch.testing.assert_close(kept.pairs.float() / 255, Normalise().inverse(images), atol=1e-6, rtol=0)
    with torch.no_grad():
        features = method.eval().features(images)
        masks = method.mix_block(features, torch.arange(len(images)) ^ 1, 0.5, (32, 32))
        others = method.mix_block(features, torch.arange(len(images)) ^ 1, 0.6, (32, 32))
    assert (others - masks).abs().mean() > 0.01
    torch.testing.assert_close(kept.masks.float(), masks[::2], atol=1e-3, rtol=0)


def test_a_run_that_goes_on_leaves_the_same_looks_and_none_of_another_run(config, tmp_path, fabric, monkeypatch):
    settings = load_settings(config, {"optim.epochs": 2, "run.checkpoint_every": 1, "run.inspect_every": 1})
    train(settings, tmp_path / "whole", resume=False, fabric=fabric)
    real_step = loop.Run._step

    def dying_step(run, images, labels):
        if run.step == 6:  # in the second epoch
            raise ConnectionError
        real_step(run, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "_step", dying_step)
        with pytest.raises(ConnectionError):
            train(settings, tmp_path / "killed", resume=False, fabric=fabric)
    for epoch in (2, 9):  # the second is of the run itself, had it been killed later; the ninth of one before
        (tmp_path / f"killed/mixes/epoch_{epoch:04d}.safetensors").write_bytes(b"other")
    train(settings, tmp_path / "killed", resume=True, fabric=fabric)
    for suffix in (".png", ".safetensors"):
        whole, killed = (find_looks(tmp_path / run, suffix) for run in ("whole", "killed"))
        assert [*whole] == [*killed] == [1, 2]
        assert all(path.read_bytes() == killed[epoch].read_bytes() for epoch, path in whole.items())
    titles = [axes.get_title() for axes in draw_masks_over_training(tmp_path / "whole").axes]
    assert titles[:4] == ["image i", "epoch 1", "epoch 2", "image j"]


def test_a_run_without_a_mix_block_leaves_no_masks(config, tmp_path, fabric):
    train(load_settings(config, {"optim.epochs": 1}, method="mixup"), tmp_path, resume=False, fabric=fabric)
    with pytest.raises(UserError, match="only runs of AutoMix look at masks"):
        draw_masks_over_training(tmp_path)


def test_a_line_is_the_mean_since_the_last_one(config, tmp_path, fabric):
    for every in (1, 4):
        settings = load_settings(config, {"optim.epochs": 1, "run.log_every": every})
        train(settings, tmp_path / str(every), resume=False, fabric=fabric)
    each, [four] = ([e for e in read_log(tmp_path / str(n)) if "total" in e] for n in (1, 4))
    assert four["ce"] == pytest.approx(sum(entry["ce"] for entry in each) / 4, rel=1e-5)


def test_tensorboard_shows_what_the_log_holds_across_a_resume(config, tmp_path, fabric, monkeypatch):
    settings = load_settings(config, {"optim.epochs": 2, "run.checkpoint_every": 1})
    real_step = loop.Run._step

    def dying_step(run, images, labels):
        if run.step == 6:
            raise ConnectionError
        real_step(run, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "_step", dying_step)
        with pytest.raises(ConnectionError):
            train(settings, tmp_path, resume=False, fabric=fabric)
    train(settings, tmp_path, resume=True, fabric=fabric)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = {event.step: event.value for event in board.Scalars("total")}
    logged = {entry["step"]: entry["total"] for entry in read_log(tmp_path) if "total" in entry}
    assert shown.keys() == logged.keys() == set(range(1, 9))
    assert all(shown[step] == pytest.approx(value) for step, value in logged.items())
    assert [event.step for event in board.Images("mixes")] == [4, 8]


def test_wandb_gets_the_log(config, tmp_path, fabric, monkeypatch):
    """A stand-in that keeps what it is told: the real service cannot be reached in a test."""
    told, started = [], {}
    run = SimpleNamespace(log=lambda values, step: told.append((step, set(values))), finish=lambda: told.append("end"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: started.update(options) or run))
    settings = load_settings(config, {"optim.epochs": 1, "run.wandb": "mine"}, method="vanilla")
    train(settings, tmp_path, resume=False, fabric=fabric)
    assert started["project"] == "mine"
    assert started["resume"] == "allow"
    assert started["config"]["optim"]["epochs"] == 1
    assert told[-1] == "end"
    assert [step for step, _ in told[:-1]] == [1, 2, 3, 4, 4]
    assert "model_top1" in told[-2][1]


def test_wandb_that_is_not_installed(config, tmp_path, fabric, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        train(load_settings(config, {"run.wandb": "mine"}, method="vanilla"), tmp_path, resume=False, fabric=fabric)


@pytest.mark.parametrize("log_every", [1, 50])
def test_a_term_that_is_not_finite_is_named_and_the_good_state_stays(config, tmp_path, fabric, monkeypatch, log_every):
    settings = load_settings(config, {"optim.epochs": 3, "run.log_every": log_every})
    real_step = loop.Run._step

    def spoiled_step(run, images, labels):
        if run.step == 6:  # in the second epoch: the state of the first is written
            run.method.gamma = float("nan")
            run.method.set_progress = lambda *_: None
        real_step(run, images, labels)

    monkeypatch.setattr(loop.Run, "_step", spoiled_step)
    where = "step 7: mask_ratio, total is not finite" if log_every == 1 else "steps 1 to 8: .*mask_ratio.*is not finite"
    with pytest.raises(UserError, match=where):
        train(settings, tmp_path, resume=False, fabric=fabric)
    state = torch.load(tmp_path / FILE_NAME, weights_only=True)
    assert state["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in state["method"].values())
    assert not (tmp_path / "result.json").exists()


def test_weights_that_are_not_finite_reach_no_state(config, tmp_path, fabric, monkeypatch):
    settings = load_settings(config, {"optim.epochs": 2, "run.log_every": 100})
    real_step = loop.Run._step

    def spoiled_step(run, images, labels):
        real_step(run, images, labels)
        if run.step == 8:  # the losses of the last step were still finite
            next(run.method.student.parameters()).data.fill_(float("inf"))

    monkeypatch.setattr(loop.Run, "_step", spoiled_step)
    with pytest.raises(UserError, match=r"step 8: student\.conv1\.0\.weight and 0 other tensors are not finite"):
        train(settings, tmp_path, resume=False, fabric=fabric)
    assert torch.load(tmp_path / FILE_NAME, weights_only=True)["step"] == 4


def test_bf16(config, tmp_path, fabric):
    """Half precision changes the run by its rounding and no more; Fabric has no float16 on a CPU."""
    changes = {"optim.epochs": 1, "run.log_every": 1}
    train(load_settings(config, changes), tmp_path / "32", resume=False, fabric=fabric)
    half = load_settings(config, {**changes, "run.precision": "bf16-mixed"})
    train(half, tmp_path / "16", resume=False, fabric=launch_fabric("bf16-mixed"))
    first, second = (next(e["total"] for e in read_log(tmp_path / bits) if "total" in e) for bits in ("32", "16"))
    assert second == pytest.approx(first, rel=0.01)
    assert second != first


def test_parts_of_a_batch_sum_to_the_whole(config, tmp_path, fabric):
    """Without batch norm a batch made in two parts is the batch; AutoMix would mix within each part."""
    results = []
    for parts in (1, 2):
        changes = {"optim.epochs": 1, "optim.accumulate": parts, "backbone.name": "convnext_atto", "run.seed": 3}
        folder = tmp_path / str(parts)
        train(load_settings(config, changes, method="vanilla"), folder, resume=False, fabric=fabric)
        results.append([entry["ce"] for entry in read_log(folder) if "ce" in entry])
    assert results[0] == pytest.approx(results[1], abs=1e-5)
    with pytest.raises(UserError, match="batch_size 8 cannot be shared evenly by 1 processes in 3 parts each"):
        train(load_settings(config, {"optim.accumulate": 3}), tmp_path / "odd", resume=False, fabric=fabric)


def test_compiled_networks_train_and_export_under_their_own_names(config, tmp_path, fabric, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, *_, **__: compiled.append(type(module).__name__))
    settings = load_settings(config, {"optim.epochs": 1, "run.compile": True})
    train(settings, tmp_path, resume=False, fabric=fabric)
    assert compiled == ["ResNet", "ResNet"]  # student and teacher


def test_mixed_accuracy_counts_pairs_of_two_classes(fabric):
    """Images carry their label as a constant; the network reads both constants out of the mix, with a known error."""
    labels = torch.tensor([0, 1, 2, 2])
    index = torch.tensor([1, 2, 3, 0])  # pairs 0-1, 1-2, 2-2 (left out), 2-0
    logits = torch.tensor(
        [
            [3.0, 2.0, 1.0],  # 0 and 1: the best is of the pair, the best two are the pair
            [2.0, 3.0, 1.0],  # 1 and 0, the pair is 1-2: the best is of the pair, the best two are not
            [1.0, 0.0, 9.0],  # pair of one class
            [1.0, 3.0, 2.0],  # 1 and 2, the pair is 2-0: neither
        ]
    )

    def mix(images, targets):
        return images, 0.6 * targets + 0.4 * targets[index]

    found = mixed_accuracy(lambda images: logits, [(torch.zeros(4, 3, 2, 2), labels)], mix, 3, fabric)
    assert found == pytest.approx({"mixed_acc1": 100 * 2 / 3, "mixed_acc2": 100 / 3})
    one_class = [(torch.zeros(4, 3, 2, 2), torch.zeros(4).long())]
    same = mixed_accuracy(lambda images: logits, one_class, mix, 3, fabric)
    assert same == {}
