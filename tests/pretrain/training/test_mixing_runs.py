"""Whole runs with methods that need more than images: views, a frozen network, attention, soft labels; and a start."""

import json

import pytest
import torch
from safetensors.torch import load_file

from pretrain.backbones import (
    BackboneCard,
    build_backbone,
    export_backbone,
    load_backbone,
    load_pretrained,
    pretrained,
    start_from,
)
from pretrain.console import UserError
from pretrain.data.soft_labels import write_card, write_labels
from pretrain.training import loop
from pretrain.training.devices import launch_fabric
from pretrain.training.logbook import read_log
from pretrain.training.loop import train
from pretrain.training.methods import build_method
from pretrain.training.settings import load_settings

CLASSES = ("class0", "class1", "class2")


@pytest.fixture
def fabric():
    return launch_fabric("32-true")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network of the run's architecture and classes, as an earlier run would have left it."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("earlier") / "model"
    export_backbone(build_backbone("resnet10t", 3), BackboneCard(arch="resnet10t", classes=CLASSES), path)
    return path.with_suffix(".safetensors")


def _settings(config, method, **changes):
    return load_settings(config, {"method": {"_delete_": True, **method}, "optim.epochs": 2, **changes})


def _weights(folder):
    return load_file(folder / "export/model.safetensors")


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ({"name": "puzzlemix"}, {}),
        ({"name": "comixup"}, {"run.precision": "bf16-mixed"}),
        ({"name": "manifoldmix"}, {"optim.accumulate": 2}),
        ({"name": "alignmix"}, {}),
        ({"name": "augmix"}, {"optim.accumulate": 2, "run.channels_last": True, "data.workers": 1}),
        ({"name": "attentivemix", "teacher_size": 64}, {}),
        ({"name": "supermix", "grid": 4, "max_steps": 2}, {}),
        ({"name": "transmix"}, {"backbone.name": "test_vit", "data.transform.size": 160}),
    ],
    ids=lambda value: value.get("name", ""),
)
def test_a_run_stopped_and_resumed_is_the_run_in_one_go(config, tmp_path, exported, monkeypatch, method, changes):
    if method["name"] in ("attentivemix", "supermix"):
        method = {**method, "frozen_network": str(exported)}
    settings = _settings(config, method, **changes)
    fabric = launch_fabric(settings.run.precision)
    train(settings, tmp_path / "whole", resume=False, fabric=fabric)
    mixed = [entry for entry in read_log(tmp_path / "whole") if "mixed_ce" in entry]
    assert [entry["step"] for entry in mixed] == list(range(1, 9))
    assert all(0 < entry["mixed_ce"] < 100 for entry in mixed)

    real_step = loop.Run._step

    def interrupted_step(run, images, labels):
        if run.step == 6:
            raise ConnectionError("the machine is gone")
        real_step(run, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "_step", interrupted_step)
        with pytest.raises(ConnectionError):
            train(settings, tmp_path / "stopped", resume=False, fabric=fabric)
    train(settings, tmp_path / "stopped", resume=True, fabric=fabric)
    whole, stopped = _weights(tmp_path / "whole"), _weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_the_frozen_network_stays_as_it_is(config, tmp_path, fabric, exported, monkeypatch):
    runs = []
    monkeypatch.setattr(loop.Run, "fit", lambda run, stop, fit=loop.Run.fit: (runs.append(run), fit(run, stop)))
    method = {"name": "attentivemix", "frozen_network": str(exported), "teacher_size": 64}
    result = train(_settings(config, method), tmp_path, resume=False, fabric=fabric)
    assert list(result["accuracy"]) == ["model_top1", "model_top5"]  # the frozen network is no result
    assert not runs[0].method.frozen.training
    before = load_file(exported)
    assert all(torch.equal(value, before[name]) for name, value in runs[0].method.frozen.state_dict().items())


def test_transmix_needs_a_class_token_from_the_start(config):
    settings = _settings(config, {"name": "transmix"})
    with pytest.raises(UserError, match="backbone 'resnet10t' has no class token"):
        build_method(settings.method, build_backbone(settings.backbone.name, 3), 3)


def test_a_run_starts_from_an_exported_backbone(config, tmp_path, fabric, exported):
    """With a learning rate of zero it also ends there, but for its head and the batch-norm statistics."""
    settings = _settings(
        config, {"name": "vanilla"}, **{"backbone.pretrained": str(exported), "optim.lr": 0.0, "optim.epochs": 1}
    )
    train(settings, tmp_path, resume=False, fabric=fabric)
    start, end = load_file(exported), _weights(tmp_path)
    same = {name for name in start if torch.equal(start[name], end[name])}
    assert {name for name in start if name not in same and "running" not in name and "num_batches" not in name} == {
        "fc.weight"
    }


def test_a_start_of_another_architecture_is_refused(exported):
    with pytest.raises(UserError, match="not the weights of the configured backbone .* set backbone.name"):
        start_from(build_backbone("resnet18", 3), str(exported))


def test_what_no_pretrained_network_can_be_is_named(exported, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"'resnet50.tv_in1' is neither .* did you mean 'resnet50.tv_in1k'"):
        load_pretrained("resnet50.tv_in1")
    with pytest.raises(UserError, match="their names carry a tag, such as resnet50.tv_in1k"):
        load_pretrained("resnet50")
    monkeypatch.setattr(pretrained, "_from_timm", lambda name: build_backbone("test_vit", 3))  # trained at 0.5
    with pytest.raises(UserError, match="it wants images normalised by mean .* not ImageNet's"):
        load_pretrained("test_vit.r160_in1k")

    def offline(*_, **__):
        raise OSError("no route\nto the hub")

    monkeypatch.undo()
    monkeypatch.setattr(pretrained.timm, "create_model", offline)
    with pytest.raises(UserError, match=r"resnet50.tv_in1k: its weights cannot be downloaded \(no route\)") as caught:
        load_pretrained("resnet50.tv_in1k")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    network = load_pretrained(str(exported))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(network(images), load_backbone(exported)[0](images))


def test_a_set_with_soft_labels_joins_the_training_images(config, tmp_path, fabric, image_folder):
    """An epoch grows by the set's images; a label that only the set has is learnt."""
    soft = tmp_path / "soft"
    (soft / "images").mkdir(parents=True)
    sources = sorted((image_folder / "train/class0").glob("*.png"))
    for number, source in enumerate(sources[:7]):
        (soft / f"images/{number:08d}.png").write_bytes(source.read_bytes())
    write_labels(soft / "soft_labels.safetensors", torch.tensor([[0.5, 0.3, 0.2]]).repeat(7, 1))
    write_card(soft, list(CLASSES), 7)
    result = train(
        _settings(config, {"name": "vanilla"}, **{"data.soft_labelled": str(soft)}), tmp_path / "run", False, fabric
    )
    assert result["steps"] == 2 * ((33 + 7) // 8)
    assert json.loads((tmp_path / "run/result.json").read_text())["settings"]["data"]["soft_labelled"] == str(soft)
    mixed = train(
        _settings(config, {"name": "cutmix", "one_hot_ce": True}, **{"data.soft_labelled": str(soft)}),
        tmp_path / "mixed",
        resume=False,
        fabric=fabric,
    )
    assert mixed["steps"] == 10
