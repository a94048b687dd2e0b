"""The offline SuperMix set: what is written, the same bytes whatever the sitting, and refusals."""

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close
from torchvision.transforms import v2

from pretrain.backbones import BackboneCard, build_backbone, export_backbone, load_backbone
from pretrain.console import UserError
from pretrain.data.soft_labels import SoftLabelledImages
from pretrain.files import read_json, sha256
from pretrain.mixups.supermix import SuperMix
from pretrain.training import supermix_set
from pretrain.training.supermix_set import generate

CLASSES = tuple(f"class{number}" for number in range(5))
SIDE, MIXES = 16, 22
OPTIONS = {"mixes": MIXES, "batch_size": 8, "policy": SuperMix(grid=4, max_steps=3)}
SCRIPT = Path(__file__).parents[3] / "tools" / "supermix_generate.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty-five images of coloured blocks, of more than one size."""
    root, rng = tmp_path_factory.mktemp("blocks"), np.random.default_rng(0)
    for name in CLASSES:
        (root / "train" / name).mkdir(parents=True)
        for number in range(5):
            blocks = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
            blocks.resize((24, 18 + number)).save(root / "train" / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, data):
    """A random network whose head is centred on the images, so that it predicts all classes."""
    torch.manual_seed(0)
    model = build_backbone("cifar_resnet20", len(CLASSES)).eval()
    card = BackboneCard("cifar_resnet20", CLASSES, stem="cifar", input_size=(SIDE, SIDE))
    look = v2.Compose([v2.PILToTensor(), v2.Resize((SIDE, SIDE)), v2.ToDtype(torch.float32, scale=True)])
    pixels = torch.stack([look(Image.open(path)) for path in sorted(data.rglob("*.png"))])
    images = v2.functional.normalize(pixels, card.mean, card.std)
    with torch.no_grad():
        model.fc.weight *= 4 / model(images).std(0).mean()
        model.fc.bias -= model(images).mean(0)
    path = tmp_path_factory.mktemp("teacher") / "model.safetensors"
    export_backbone(model, card, path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, teacher):
    """A set made in one go; tests only read it."""
    out = tmp_path_factory.mktemp("set") / "mixed"
    return out, generate(data, teacher, out, **OPTIONS)


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_succeeds_is_kept_and_the_rest_dropped(whole, teacher):
    out, summary = whole
    assert summary.kept + summary.dropped == MIXES
    assert summary.kept > 4
    assert summary.dropped > 2
    images = [f"images/{number:08d}.png" for number in range(summary.kept)]
    assert sorted(contents(out)) == sorted([*images, "set.json", "settings.json", "soft_labels.safetensors"])
    card = read_json(out / "set.json")
    assert card["classes"] == list(CLASSES)
    assert card["teacher"] == sha256(teacher)
    assert (card["count"], card["dropped"], card["seed"], card["grid"]) == (summary.kept, summary.dropped, 0, 4)


def test_labels_are_the_teachers_prediction_on_the_stored_images(whole, teacher):
    out, summary = whole
    network, card = load_backbone(teacher)
    read = SoftLabelledImages(out, v2.PILToTensor())
    assert len(read) == summary.kept
    pixels, labels = (torch.stack(parts) for parts in zip(*(read[0, number] for number in range(len(read)))))
    assert pixels.shape == (summary.kept, 3, SIDE, SIDE)
    with torch.no_grad():
        logits = network(v2.functional.normalize(pixels.float() / 255, card.mean, card.std))
    assert_close(labels, logits.softmax(1), atol=1e-4, rtol=1e-3)


def test_a_mix_is_its_sources_by_their_masks(data, teacher, tmp_path, monkeypatch):
    """Each pixel is that of the mix, rounded to 8 bits; each chunk draws shares of its own."""
    seen, drawn = [], []
    optimise = SuperMix.optimise

    def watched(self, images, chosen, shares, network):
        found = optimise(self, images, chosen, shares, network)
        drawn.append(shares)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (BackboneCard.mean, BackboneCard.std))
        sources = ((images * std + mean) * 255)[chosen]
        seen.extend(torch.einsum("nkhw,nkchw->nchw", found.masks, sources)[found.success])
        return found

    monkeypatch.setattr(SuperMix, "optimise", watched)
    generate(data, teacher, tmp_path / "set", **OPTIONS)
    read = SoftLabelledImages(tmp_path / "set", v2.PILToTensor())
    assert len(seen) == len(read)
    assert [len(shares) for shares in drawn] == [8, 8, 6]
    assert not torch.equal(drawn[0], drawn[1])
    for number, mixed in enumerate(seen):
        assert (read[0, number][0] - mixed).abs().max() < 0.51


def test_same_seed_gives_the_same_bytes_and_another_seed_others(whole, data, teacher, tmp_path):
    generate(data, teacher, tmp_path / "again", **OPTIONS)
    assert contents(tmp_path / "again") == contents(whole[0])
    generate(data, teacher, tmp_path / "other", seed=1, **OPTIONS)
    name = "images/00000000.png"
    assert contents(tmp_path / "other")[name] != contents(whole[0])[name]


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupted_set_goes_on_and_ends_with_the_same_bytes(whole, data, teacher, tmp_path, monkeypatch, call):
    """Stopped after the images of chunk `call`, before their labels count them."""
    out, written = tmp_path / "set", []
    write = supermix_set.write_labels

    def interrupted(path, labels):
        if len(written) == call - 1:
            raise KeyboardInterrupt
        written.append(path)
        write(path, labels)

    monkeypatch.setattr(supermix_set, "write_labels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(data, teacher, out, **OPTIONS)
    assert len(list((out / "parts").glob("*"))) == call - 1
    with pytest.raises(UserError, match=r"set\.json: no such file"):
        SoftLabelledImages(out, v2.PILToTensor())
    counted = sum(len(load_file(path)["labels"]) for path in written)
    before = {path: path.stat().st_mtime_ns for path in sorted((out / "images").iterdir())[:counted]}
    (out / "images" / ".00000003.killed.png").write_bytes(b"half")
    monkeypatch.setattr(supermix_set, "write_labels", write)
    again = generate(data, teacher, out, **OPTIONS)
    assert not again.already_complete
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(out) == contents(whole[0])


def test_a_complete_set_is_left_alone(whole, data, teacher):
    out, summary = whole
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = generate(data, teacher, out, **OPTIONS)
    assert again == dataclasses.replace(summary, already_complete=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_more_mixes_than_images_go_round_again(data, teacher, tmp_path):
    summary = generate(data, teacher, tmp_path / "set", mixes=31, batch_size=10, policy=SuperMix(grid=4, max_steps=1))
    assert summary.kept + summary.dropped == 31
    assert read_json(tmp_path / "set" / "settings.json")["training_images"] == 25


def test_other_settings_and_other_things_are_refused(whole, data, teacher, tmp_path):
    out, _ = whole
    with pytest.raises(UserError, match="made otherwise .seed is 0 there and 3 here; grid is 4 there and 5 here."):
        generate(data, teacher, out, seed=3, **{**OPTIONS, "policy": SuperMix(grid=5, max_steps=3)})
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="the folder holds other things than a set"):
        generate(data, teacher, tmp_path, **OPTIONS)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("options", [{"mixes": 0}, {"batch_size": 0}, {"resize": 8}])
def test_impossible_arguments_are_refused(data, teacher, tmp_path, options):
    with pytest.raises(UserError, match="have to be positive, and resize at least the teacher's 16 pixels"):
        generate(data, teacher, tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_a_teacher_of_other_classes_and_missing_images_are_refused(data, teacher, tmp_path):
    network, card = load_backbone(teacher)
    other = tmp_path / "other.safetensors"
    export_backbone(network, dataclasses.replace(card, classes=(*CLASSES[:4], "owl")), other)
    with pytest.raises(UserError, match=r"other\.safetensors: class 4 is 'owl' there and 'class4' in the data set"):
        generate(data, other, tmp_path / "set", **OPTIONS)
    with pytest.raises(UserError, match=r"train: no images under <class>/ there"):
        generate(tmp_path, teacher, tmp_path / "set", **OPTIONS)
    with pytest.raises(UserError, match=r"missing\.json: no such file"):
        generate(data, tmp_path / "missing.safetensors", tmp_path / "set", **OPTIONS)
    assert not (tmp_path / "set").exists()


def test_a_set_of_nothing_is_refused(data, teacher, tmp_path, monkeypatch):
    optimise = SuperMix.optimise

    def unlucky(*arguments):
        found = optimise(*arguments)
        return dataclasses.replace(found, success=torch.zeros_like(found.success))

    monkeypatch.setattr(SuperMix, "optimise", unlucky)
    with pytest.raises(UserError, match="none of 22 mixes succeeded"):
        generate(data, teacher, tmp_path / "set", **OPTIONS)
    assert not (tmp_path / "set" / "set.json").exists()


def test_the_command_writes_the_set_and_says_how_many_were_dropped(whole, data, teacher, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("supermix_generate", SCRIPT)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    out, summary = tmp_path / "set", whole[1]
    command = f"x --data {data} --teacher {teacher} --out {out} --mixes 22 --batch-size 8 --grid 4 --max-steps 3"
    monkeypatch.setattr(sys, "argv", command.split())
    tool.main()
    assert f"{summary.kept} kept, {summary.dropped} dropped of 22" in capsys.readouterr().out
    assert contents(out) == contents(whole[0])
    tool.main()
    assert "already complete" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command.split(), "--alpha", "0"])
    with pytest.raises(UserError, match="supermix: alpha has to be positive"):
        tool.main()
