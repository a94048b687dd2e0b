"""A dry run: what it finds, that it leaves no trace, and one real step of everything in the paper's tables.

The steps are made by dry runs at reduced size: batch 4, images of 64 pixels where the paper has more than 32, random
weights in place of downloads. Of 428 cells that can be trained 192 differ in more than length, data set or learning
rate. The fast part steps every backbone and every procedure, and every method of every procedure on the procedure's
smallest network; the rest is marked slow.
"""

import io
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from pretrain.console import UserError
from pretrain.training import dry_run as module
from pretrain.training import loop
from pretrain.training.__main__ import main
from pretrain.training.cells import cells
from pretrain.training.devices import launch_fabric
from pretrain.training.dry_run import dry_run, saved_bytes
from pretrain.training.dry_run_page import print_page
from pretrain.training.loop import train
from pretrain.training.methods import untrained_method_of
from pretrain.training.settings import load_settings


@pytest.fixture
def fabric():
    return launch_fabric("32-true")


def _page(found, width=120):
    console = Console(file=io.StringIO(), width=width)
    print_page(found, console)
    return console.file.getvalue()


def test_what_a_dry_run_finds(config, tmp_path, fabric):
    """Counted by hand: 33 images in batches of 8, ResNet-10-t, a Mix Block on 256 channels."""
    folder = tmp_path / "work" / "run"
    found = dry_run(load_settings(config, {"optim.lr_batch_size": 16}), folder, fabric)
    assert (found.images, found.classes, found.batch, found.steps_per_epoch, found.steps) == ((33, 15), 3, 8, 4, 16)
    assert found.feature_map == (256, 2, 2)
    assert found.mix_block == 257 * 128 + 128 + 257 + 1
    assert found.trained == found.frozen + found.mix_block  # the teacher is a copy of the student
    assert found.lr_factor == 0.5
    assert found.losses["total"] == pytest.approx(sum(found.losses[k] for k in ("ce", "mixed_ce", "generation_ce")))
    memory = found.memory
    assert memory.gradients == memory.optimizer == 4 * found.trained  # SGD keeps one number for each
    assert memory.total == sum(asdict(memory).values()) - memory.total
    assert not (tmp_path / "work").exists()


def test_sizes_of_files_are_what_a_run_writes(config, tmp_path, fabric):
    settings = load_settings(config, {"optim.epochs": 1})
    found = dry_run(settings, tmp_path / "run", fabric)
    train(settings, tmp_path / "run", resume=False, fabric=fabric)
    for name, size in found.files.items():
        if isinstance(size, int) and name != "state.previous.pth":
            written = (tmp_path / "run" / name).stat().st_size
            assert size < written < 1.02 * size + 60_000, name  # names and shapes of the tensors come on top
        elif "*" not in name and name != "state.previous.pth":
            assert (tmp_path / "run" / name.rstrip("/")).exists(), name
    written = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*")}
    assert {name for name in found.files if "*" not in name} - {"tensorboard/", "state.previous.pth"} <= written
    assert {name for name in found.files if "*" in name} == {"mixes/*.png", "mixes/*.safetensors"}
    assert {name for name in written if name.startswith("mixes/")} == {
        "mixes/epoch_0001.png",
        "mixes/epoch_0001.safetensors",
    }


@pytest.mark.parametrize("method", ["vanilla", "automix", "puzzlemix"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_scaled_to_the_batch_equals_the_full_count(config, tmp_path, fabric, monkeypatch, method, accumulate):
    changes = {"data.batch_size": 32, "optim.accumulate": accumulate}
    settings = load_settings(config, changes, method=method)
    scaled = dry_run(settings, tmp_path, fabric)
    monkeypatch.setattr(module, "MOST_ON_CPU", 32)
    full = dry_run(settings, tmp_path, fabric)
    assert (scaled.made_on, full.made_on) == (16, 32)
    assert scaled.flops == full.flops
    assert scaled.memory.activations == pytest.approx(full.memory.activations, rel=0.01)


def test_activations_are_those_of_the_largest_branch():
    """Two branches one after the other: a linear layer keeps its input, a ReLU its output; in half precision too."""
    layers = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    with saved_bytes(layers) as meter:
        for rows in (3, 7, 4):
            layers(torch.zeros(rows, 6)).sum().backward()
    assert meter["peak"] == 4 * 7 * (6 + 5)
    assert meter["now"] == 0
    with saved_bytes(layers) as meter, torch.autocast("cpu", torch.bfloat16):
        layers(torch.zeros(7, 6)).sum().backward()
    assert meter["peak"] == 2 * 7 * (6 + 5)  # copies of the weights are not counted


def test_it_says_whether_a_run_is_there(config, tmp_path, fabric):
    settings = load_settings(config, {"optim.epochs": 1}, method="vanilla")
    assert "starts anew" in dry_run(settings, tmp_path / "run", fabric).state
    train(settings, tmp_path / "run", resume=False, fabric=fabric)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "after its last step" in dry_run(settings, tmp_path / "run", fabric).state
    other = load_settings(config, {"optim.epochs": 2}, method="vanilla")
    assert "optim.epochs was 1, is 2" in dry_run(other, tmp_path / "run", fabric).state
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_errors_are_the_runs_own(config, tmp_path, fabric):
    with pytest.raises(UserError, match="exceeds the 33 training images"):
        dry_run(load_settings(config, {"data.batch_size": 64}), tmp_path / "run", fabric)
    with pytest.raises(UserError, match="no images under train"):
        dry_run(load_settings(config, {"data.root": str(tmp_path / "none")}), tmp_path / "run", fabric)


def test_a_loss_that_is_not_finite_is_an_error(config, tmp_path, fabric, monkeypatch):
    monkeypatch.setattr(nn.CrossEntropyLoss, "forward", lambda *_: torch.full((), float("nan"), requires_grad=True))
    with pytest.raises(UserError, match="step 1: ce, total is not finite"):
        dry_run(load_settings(config, method="vanilla"), tmp_path / "run", fabric)


@pytest.mark.parametrize("width", [80, 120])
def test_the_page_fits(config, tmp_path, fabric, width):
    page = _page(dry_run(load_settings(config, {"data.batch_size": 32}), tmp_path / "run", fabric), width)
    assert max(map(len, page.splitlines())) <= width
    words = " ".join(page.split())
    assert "made on 16 images on this CPU; operations and activations are scaled to 32" in words
    assert "a multiply-add counts as 2" in words
    assert "reads stage 3: 256 channels, 2 x 2" in words
    assert "export/mix_block.safetensors" in words


def test_the_command_prints_a_page_for_each_method(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("sys.argv", ["pretrain", str(config), "--method", "automix", "cutmix", "--dry-run"])
    main()
    shown = capsys.readouterr().out
    assert "tiny, automix: dry run" in shown
    assert "tiny, cutmix: dry run" in shown
    assert "accuracy" not in shown
    assert sorted(tmp_path.rglob("*")) == before


# One step of everything in the tables.

SMALLEST = ["cifar_resnet18", "resnet18", "mobilenetv2_100", "deit_small_patch16_224"]


def _ingredients(settings):
    """What decides which code a step runs, as text."""
    optim, data = settings.optim, settings.data
    kind = (optim.name, optim.clip_norm, optim.ema_decay, optim.decay_norm_and_bias, optim.accumulate)
    recipe = (asdict(data.transform), data.repeated_augmentation, asdict(settings.loss), settings.run.precision, kind)
    return json.dumps(recipe), json.dumps([asdict(settings.backbone), asdict(settings.method)])


def _combinations():
    """Return (config, method, whether it is of the fast part), each combination once."""
    seen, procedures, backbones, found = set(), set(), set(), []
    trainable = dict.fromkeys((cell.path, cell.config, cell.method) for cell in cells() if cell.trainable)
    for path, config, method in sorted(trainable, key=lambda found: found[2] != "automix"):
        settings = load_settings(path, method=method)
        recipe, rest = _ingredients(settings)
        if (recipe, rest) in seen:
            continue
        fast = (recipe, method) not in procedures and settings.backbone.name in SMALLEST
        fast |= settings.backbone.name not in backbones
        seen.add((recipe, rest))
        backbones.add(settings.backbone.name)
        if fast:
            procedures.add((recipe, method))
        found.append((config, method, fast))
    return found


COMBINATIONS = _combinations()


@pytest.fixture(scope="module")
def four_classes(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("four"), np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(4):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (80, 70, 3), np.uint8)).save(folder / "0.png")
    return root


@pytest.mark.parametrize(
    ("config_name", "method"),
    [pytest.param(c, m, marks=() if fast else pytest.mark.slow, id=f"{c}-{m}") for c, m, fast in COMBINATIONS],
)
def test_one_step_of_every_combination(config_name, method, four_classes, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "method_of", untrained_method_of)
    [path] = {cell.path for cell in cells() if cell.config == config_name}
    size = min(64, load_settings(path).data.transform.size)
    changes = {"data.root": str(four_classes), "data.batch_size": 4, "data.workers": 0, "data.transform.size": size}
    settings = load_settings(path, changes, method)
    found = dry_run(settings, tmp_path / "run", launch_fabric(settings.run.precision))
    assert all(np.isfinite(value) for value in found.losses.values())
    assert found.flops > 0
    assert found.made_on == 4
