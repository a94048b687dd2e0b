"""The mixing methods of a checkpoint: as trained, by its own settings, or left out with a reason."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pretrain import mixups
from pretrain.automix import MixBlock, load_mix_block, save_mix_block
from pretrain.backbones import (
    BackboneCard,
    build_backbone,
    export_backbone,
    load_backbone,
    stage_channels,
    stage_features,
)
from pretrain.evaluation.mixed_accuracy import MixedMeter
from pretrain.evaluation.mixes import mixings_of
from pretrain.mixups.policy import sample_lam, sample_partners


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_backbone("resnet10t", 4).eval()


def card_of(method, **settings):
    return BackboneCard("resnet10t", tuple("abcd"), method=method, training={"method": {"name": method, **settings}})


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(6, 3, 32, 32, generator=generator), F.one_hot(torch.tensor([0, 1, 2, 3, 0, 1]), 4).float()


def seeded():
    return torch.Generator().manual_seed(5)


def test_yardsticks_have_alpha_1_and_draw_as_in_training(model, batch, tmp_path):
    found, reason = mixings_of(model, card_of("vanilla"), tmp_path / "model")
    assert list(found) == ["mixup", "cutmix"]
    assert "clean images alone" in reason
    for name, mixing in found.items():
        expected = mixups.build(name)(*batch, generator=seeded())
        images, soft = mixing(*batch, seeded())
        assert torch.equal(images, expected.images)
        assert torch.equal(soft, expected.soft_targets)
        assert found[name].policy.alpha == 1


def test_lambda_and_partners_can_be_given(model, batch, tmp_path):
    found, _ = mixings_of(model, card_of("vanilla"), tmp_path / "model")
    partners = torch.arange(6) ^ 1
    images, soft = found["mixup"](*batch, seeded(), 0.25, partners)
    torch.testing.assert_close(images, 0.25 * batch[0] + 0.75 * batch[0][partners])
    torch.testing.assert_close(soft, 0.25 * batch[1] + 0.75 * batch[1][partners])


def test_the_own_method_has_the_settings_it_was_trained_with(model, batch, tmp_path):
    found, reason = mixings_of(model, card_of("mixup", alpha=0.2, momentum=None), tmp_path / "model")
    assert reason is None
    assert (found["mixup"].policy.alpha, found["cutmix"].policy.alpha) == (0.2, 1)
    found, reason = mixings_of(model, card_of("puzzlemix"), tmp_path / "model")
    assert reason is None
    images, soft = found["puzzlemix"](*batch, seeded(), 0.5, torch.arange(6) ^ 1)  # by this network's saliency
    assert images.shape == batch[0].shape
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(6))


def test_the_loss_of_the_training_decides_the_saliency(model, tmp_path, monkeypatch):
    losses = []
    monkeypatch.setattr("pretrain.evaluation.mixes.build_criterion", lambda settings: losses.append(settings.name))
    card = BackboneCard("resnet10t", tuple("abcd"), method="puzzlemix", training={"loss": {"name": "bce"}})
    mixings_of(model, card, tmp_path / "model")
    assert losses == ["bce"]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("manifoldmix", "no mixed images to look at"),
        ("augmix", "no mixed images to look at"),
        ("attentivemix", "follows a frozen network, and its card names none"),
        ("somemix", "'somemix' is not known here"),
        ("automix", "there is no Mix Block"),
    ],
)
def test_what_cannot_be_mixed_is_left_out_with_a_reason(model, tmp_path, method, message):
    found, reason = mixings_of(model, card_of(method), tmp_path / "model")
    assert list(found) == ["mixup", "cutmix"]
    assert message in reason


def test_a_frozen_network_is_read_from_where_the_card_says(model, batch, tmp_path):
    path = tmp_path / "frozen.safetensors"
    export_backbone(model, card_of("vanilla"), path)
    found, reason = mixings_of(model, card_of("attentivemix", frozen_network=str(path)), tmp_path / "model")
    assert reason is None
    assert found["attentivemix"](*batch, seeded())[0].shape == batch[0].shape
    gone = card_of("attentivemix", frozen_network=str(tmp_path / "gone.safetensors"))
    assert "gone" in mixings_of(model, gone, tmp_path / "model")[1]


@pytest.mark.parametrize("branch", ["teacher", "student"])
def test_automix_mixes_by_the_block_and_the_teacher_beside_it(automix_run, branch):
    weights = automix_run / "export" / f"{branch}.safetensors"
    model, card = load_backbone(weights)
    found, reason = mixings_of(model, card, weights)
    assert reason is None
    teacher, _ = load_backbone(automix_run / "export" / "teacher")
    block = load_mix_block(automix_run / "export" / "mix_block")
    images, targets = torch.randn(4, 3, 32, 32), F.one_hot(torch.tensor([0, 1, 2, 5]), 6).float()
    partners = torch.tensor([2, 3, 0, 1])
    with torch.no_grad():
        mask = block(stage_features(teacher, images, 3), partners, 0.3, (32, 32))
    mixed, soft = found["automix"](images, targets, seeded(), 0.3, partners)
    torch.testing.assert_close(mixed, mask * images + (1 - mask) * images[partners])
    torch.testing.assert_close(soft, 0.3 * targets + 0.7 * targets[partners])
    assert not mixed.requires_grad


def test_automix_draws_lambda_then_partners_by_its_own_alpha(model, batch, tmp_path):
    block = MixBlock(stage_channels(model, 3))
    save_mix_block(block, tmp_path / "mix_block")
    found, _ = mixings_of(model, replace(card_of("automix", alpha=4.0), branch="teacher"), tmp_path / "teacher")
    generator = seeded()
    lam, partners = sample_lam(4.0, generator), sample_partners(6, generator=generator)
    images, targets = batch
    _, soft = found["automix"](images, targets, seeded())
    torch.testing.assert_close(soft, lam * targets + (1 - lam) * targets[partners])


def test_automix_without_momentum_and_a_trained_block_find_their_network(model, tmp_path):
    other = build_backbone("resnet10t", 4)
    save_mix_block(MixBlock(stage_channels(model, 3)), tmp_path / "mix_block")
    export_backbone(other, card_of("automix"), tmp_path / "teacher")
    joint, _ = mixings_of(model, card_of("automix", momentum=None), tmp_path / "model")
    assert joint["automix"].network is model
    teacher = replace(card_of("automix"), branch="teacher")
    assert mixings_of(model, teacher, tmp_path / "teacher")[0]["automix"].network is model
    trained = {"preset": "fast", "trained_mix_block": str(tmp_path / "mix_block.safetensors")}
    fast = replace(card_of("automix", **trained), branch="teacher")
    found, reason = mixings_of(model, fast, tmp_path / "elsewhere" / "teacher")
    assert reason is None
    for name, value in found["automix"].network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_mixed_meter_counts_pairs_of_two_classes():
    # Labels of the mixes: classes 0 and 1, 1 and 2, 2 and 0, and one of class 1 alone.
    soft = torch.tensor([[0.7, 0.3, 0], [0, 0.4, 0.6], [0.5, 0, 0.5], [0, 1, 0]])
    logits = torch.tensor(
        [[1.0, 2, 0], [3, 2, 1], [3, 2, 1], [0, 3, 1]]
    )  # both, none of first, first only, not counted
    meter = MixedMeter(lambda images: logits, lambda images, targets: (images, soft), 3)
    assert meter.compute() == {}
    for _ in range(2):
        meter.update(torch.zeros(4, 3, 2, 2), torch.tensor([0, 1, 2, 1]))
    assert meter.pairs == 6
    assert meter.compute() == pytest.approx({"mixed_acc1": 100 * 2 / 3, "mixed_acc2": 100 / 3})
