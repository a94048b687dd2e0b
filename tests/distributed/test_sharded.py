"""Two ranks train in shards (FSDP2) what they train whole: weights, states, exported files."""

import numpy as np
import pytest
import torch
from rank_jobs import WITHOUT_BATCH_NORM, clipped_norm, held_by_rank, stop_at_nan, train_from_apart, train_run
from safetensors.torch import load_file
from test_two_ranks import _assert_close, _exported, _log
from torch import nn

from pretrain.backbones import build_backbone
from pretrain.console import UserError
from pretrain.training.settings import load_settings
from pretrain.training.sharding import blocks_of, require_shardable

FSDP = {"run.sharding": "fsdp"}
ADAMW = {"optim.name": "adamw", "optim.lr": 2e-4, "optim.weight_decay": 0.05, "optim.clip_norm": 0.5}
SMOOTH = {"backbone.name": WITHOUT_BATCH_NORM, "data.transform.size": 64}  # no batch norm over a part's two images


@pytest.fixture(scope="module")
def odd_config(config, image_folder, tmp_path_factory):
    """17 validation images: rank 0 has three batches to evaluate, rank 1 two."""
    root = tmp_path_factory.mktemp("odd")
    for path in image_folder.rglob("*.png"):
        copy = root / path.relative_to(image_folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if copy != root / "val/1/8.png":
            copy.hardlink_to(path)
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(config.read_text().replace(str(image_folder), str(root)))
    return path


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("automix", {}),
        ("automix", ADAMW),
        ("automix", {**SMOOTH, "method.heads": 2, "method.generation_skip": 0.5, "optim.accumulate": 2}),
        ("cutmix", {}),
        ("cutmix", {**ADAMW, "optim.ema_decay": 0.9}),
        ("vanilla", {"optim.name": "lamb", "optim.lr": 1e-3, "run.channels_last": True}),
        ("vanilla", ADAMW),
        ("puzzlemix", {"backbone.name": "cifar_resnet20"}),
        ("manifoldmix", {"backbone.name": "test_vit", "data.transform.size": 160}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(key.split(".")[1] for key in value) or "sgd",
)
def test_a_sharded_run_is_the_run_without_shards(two_ranks, odd_config, tmp_path, method, changes):
    """Every weight after six steps, to 1e-6; every loss and accuracy; the exported files."""
    [expected, _] = two_ranks.run(train_run, odd_config, changes, tmp_path / "whole", method)
    ranks = two_ranks.run(train_run, odd_config, {**changes, **FSDP}, tmp_path / "sharded", method)
    for rank in ranks:
        assert rank["step"] == 6
        _assert_close(rank["parameters"], expected["parameters"], atol=1e-6)
        _assert_close(rank["networks"], expected["networks"], atol=1e-5)  # running statistics are larger numbers
    _assert_close(_log(tmp_path / "sharded"), _log(tmp_path / "whole"), atol=1e-4)

    exported = sorted(path.name for path in (tmp_path / "whole/export").iterdir())
    assert sorted(path.name for path in (tmp_path / "sharded/export").iterdir()) == exported
    for network in ranks[0]["networks"]:
        _assert_close(_exported(tmp_path / "sharded", network), ranks[0]["networks"][network], atol=0)
    if method == "automix":
        block = load_file(tmp_path / "sharded/export/mix_block.safetensors")
        own = {name.removeprefix("mix_block."): v for name, v in ranks[0]["parameters"].items() if "mix_block" in name}
        _assert_close({name: tensor.numpy() for name, tensor in block.items()}, own, atol=0)


def test_half_precision_keeps_the_ranks_together(two_ranks, config, tmp_path):
    first, second = two_ranks.run(train_run, config, {**FSDP, "run.precision": "bf16-mixed"}, tmp_path, "puzzlemix")
    assert all(np.isfinite(values).all() for values in first["parameters"].values())
    _assert_close(second["parameters"], first["parameters"], atol=0)


def test_every_rank_holds_its_share_of_weights_and_momentum(two_ranks, config, tmp_path):
    sizes = two_ranks.run(held_by_rank, config, {**FSDP, "optim.ema_decay": 0.9}, tmp_path, "vanilla")
    whole = sum(parameter.numel() for parameter in build_backbone("test_resnet", 2).parameters())
    for kind in ("model", "average", "momentum"):
        assert sum(size[kind] for size in sizes) == whole
        assert max(size[kind] for size in sizes) < 0.52 * whole


def test_a_sharded_run_goes_on_bit_for_bit(two_ranks, config, tmp_path):
    changes = {**ADAMW, **FSDP}
    expected = two_ranks.run(train_run, config, changes, tmp_path / "unbroken")
    stopped = two_ranks.run(train_run, config, changes, tmp_path / "resumed", None, False, (1, 2))
    assert [rank["step"] for rank in stopped] == [2, 2]
    resumed = two_ranks.run(train_run, config, changes, tmp_path / "resumed", None, True)
    for after, unbroken in zip(resumed, expected, strict=True):
        _assert_close(after["parameters"], unbroken["parameters"], atol=0)
        _assert_close(after["networks"], unbroken["networks"], atol=0)
    assert _log(tmp_path / "resumed") == _log(tmp_path / "unbroken")


@pytest.mark.parametrize("changes", [{}, ADAMW], ids=["sgd", "adamw"])
def test_a_state_goes_from_shards_to_one_process_and_back(two_ranks, config, tmp_path, changes):
    """One process and two have the same batches, and without batch norm the same steps."""
    changes = {**SMOOTH, **changes}
    expected = train_run(config, changes, tmp_path / "alone", "vanilla")
    two_ranks.run(train_run, config, {**changes, **FSDP}, tmp_path / "moved", "vanilla", False, (1, 2))
    state = torch.load(tmp_path / "moved/state.pth", weights_only=True)
    assert {type(tensor) for tensor in state["method"].values()} == {torch.Tensor}
    assert train_run(config, changes, tmp_path / "moved", "vanilla", True, (0, 4))["step"] == 4
    two_ranks.run(train_run, config, {**changes, **FSDP}, tmp_path / "moved", "vanilla", True)
    _assert_close(_exported(tmp_path / "moved", "model"), expected["networks"]["model"], atol=1e-5)


def test_all_ranks_start_from_the_first_one_s_weights(two_ranks, config, tmp_path):
    expected = two_ranks.run(train_run, config, FSDP, tmp_path / "same", "vanilla")
    found = two_ranks.run(train_from_apart, config, FSDP, tmp_path / "apart", "vanilla")
    _assert_close([rank["parameters"] for rank in found], [rank["parameters"] for rank in expected], atol=0)


def test_a_weight_that_is_not_finite_stops_both_ranks(two_ranks, config, tmp_path):
    """It is in one rank's shard alone."""
    said = two_ranks.run(stop_at_nan, config, FSDP, tmp_path, "vanilla")
    assert said[0] == said[1]
    assert "step 3: model.layer1.0.conv1.weight and 0 other tensors are not finite" in said[0]


def test_the_norm_is_that_of_shards_and_whole_gradients_together(two_ranks):
    """Gradients 3 in shards and 4 whole, of one element each: norm 5, clipped to 1."""
    for norm, clipped in two_ranks.run(clipped_norm):
        assert norm == pytest.approx(5)
        assert clipped == pytest.approx([0.6, 0.8], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet50", ["layer1.0", 16, "layer4.2"]),
        ("cifar_wrn28_8", ["layer1.0", 13, "layer3.4"]),
        ("deit_tiny_patch16_224", ["blocks.0", 12, "blocks.11"]),
        ("swin_tiny_patch4_window7_224", ["layers.0.blocks.0", 15, "layers.3.blocks.1"]),
        ("efficientnet_b0", ["blocks.0.0", 16, "blocks.6.0"]),
    ],
)
def test_blocks_are_those_of_the_architecture(name, blocks):
    """He et al. 2016: 3 + 4 + 6 + 3; WRN: 3 times 4 and its last norm; Swin: 2 + 2 + 6 + 2 and three mergings."""
    with torch.device("meta"):
        network = build_backbone(name, 10)
    names = {module: name for name, module in network.named_modules()}
    found = [names[block] for block in blocks_of(network)]
    assert [found[0], len(found), found[-1]] == blocks


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        (
            {},
            1,
            "needs two processes or more, each with a GPU: tools/pretrain.sh CONFIG GPUS, or set run.sharding=none",
        ),
        (
            {"optim.name": "adafactor"},
            2,
            "was tested with optim.name momentum, sgd, adam, adamw, lamb, not with adafactor",
        ),
        ({"run.compile": True}, 2, "run: sharding 'fsdp' does not go with compile"),
        ({"run.precision": "16-mixed"}, 2, "run: sharding 'fsdp' does not go with precision '16-mixed'"),
    ],
)
def test_what_cannot_be_sharded_is_refused(config, changes, processes, message):
    with pytest.raises(UserError, match=message):
        require_shardable(load_settings(config, {**FSDP, **changes}), processes)


def test_an_older_torch_is_refused(config, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.7.1")
    with pytest.raises(UserError, match="needs torch 2.8 or newer, this is 2.7.1"):
        require_shardable(load_settings(config, FSDP), 2)


def test_a_network_without_known_blocks_is_refused():
    nameless = nn.Identity()
    nameless.group_matcher = lambda coarse: {"stem": "^stem"}
    nameless.default_cfg = {"architecture": "odd_net"}
    with pytest.raises(UserError, match="timm does not say what a block of 'odd_net' is; set run.sharding=none"):
        blocks_of(nameless)
