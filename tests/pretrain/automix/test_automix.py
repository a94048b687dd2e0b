"""One step of AutoMix: who gets which gradient, and how the teacher follows."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.automix import AutoMix, AutoMixSettings, MixBlock
from pretrain.automix.losses import mask_ratio_loss, mixed_loss
from pretrain.automix.momentum import momentum_at
from pretrain.automix.step import mix
from pretrain.backbones import build_backbone, stage_channels, stage_features

N, CLASSES = 4, 5


@pytest.fixture
def automix():
    torch.manual_seed(0)
    student = build_backbone("resnet10t", CLASSES)
    settings = AutoMixSettings(feature_layer=2, momentum=0.9, gamma=0.5)
    return AutoMix(student, MixBlock(stage_channels(student, 2)), settings)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(N, 3, 32, 48, generator=generator)
    given = {
        "lam_q": 0.3,
        "lam_k": 0.9,
        "index_q": torch.tensor([1, 2, 3, 0]),
        "index_k": torch.tensor([3, 2, 1, 0]),
    }
    return images, torch.arange(N), given


def test_losses_are_those_of_equation_8(automix, batch):
    images, labels, given = batch
    reference = copy.deepcopy(automix)
    losses = automix.training_step(images, labels, **given)

    features = stage_features(reference.teacher.network, images, 2)
    mixed_q = mix(images, given["index_q"], reference.mix_block(features, given["index_q"], 0.3, (32, 48)))
    mask_k = reference.mix_block(features, given["index_k"], 0.9, (32, 48))
    mixed_k = mix(images, given["index_k"], mask_k)
    assert_close(losses.ce, F.cross_entropy(reference.student(images), labels))
    soft = 0.3 * F.one_hot(labels, CLASSES) + 0.7 * F.one_hot(labels[given["index_q"]], CLASSES)
    assert_close(losses.mixed_ce, F.cross_entropy(reference.student(mixed_q), soft))
    soft = 0.9 * F.one_hot(labels, CLASSES) + 0.1 * F.one_hot(labels[given["index_k"]], CLASSES)
    assert_close(losses.generation_ce, F.cross_entropy(reference.teacher.network(mixed_k), soft))
    # A fresh Mix Block gives masks near 0.5, so each sample is off by 0.4 - 0.1 = 0.3.
    assert losses.mask_ratio.item() == pytest.approx(0.5 * (0.9 - mask_k.mean().item() - 0.1), abs=1e-6)
    assert_close(losses.total, sum(losses[:4]))


def test_student_learns_from_classification_and_mix_block_from_generation_alone(automix, batch):
    images, labels, given = batch
    losses = automix.training_step(images, labels, **given)
    student, block = list(automix.student.parameters()), list(automix.mix_block.parameters())
    assert all(not p.requires_grad for p in automix.teacher.parameters())

    classification, generation = losses.ce + losses.mixed_ce, losses.generation_ce + losses.mask_ratio
    assert all(g is None for g in torch.autograd.grad(classification, block, allow_unused=True, retain_graph=True))
    assert all(g is None for g in torch.autograd.grad(generation, student, allow_unused=True, retain_graph=True))
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(generation, block, retain_graph=True))
    assert sum(g.abs().sum() for g in torch.autograd.grad(classification, student)) > 0


def test_teacher_starts_as_the_student_and_follows_by_equation_12(automix):
    pairs = list(zip(automix.teacher.network.parameters(), automix.student.parameters(), strict=True))
    assert all(torch.equal(k, q) for k, q in pairs)
    before = [k.clone() for k, _ in pairs]
    with torch.no_grad():
        for _, q in pairs:
            q.add_(1.0)
    automix.after_step()
    for (k, q), old in zip(pairs, before, strict=True):
        assert_close(k, 0.9 * old + 0.1 * q)


def test_schedules_of_gamma_and_momentum(automix):
    automix.set_progress(25, 100)
    assert automix.gamma == pytest.approx(0.5 * 0.75)  # linear to zero
    assert automix.momentum == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)
    assert momentum_at(0.0) == pytest.approx(0.999)
    assert momentum_at(1.0) == 1.0


def test_same_generator_same_step(automix, batch):
    images, labels, _ = batch
    twin = copy.deepcopy(automix)
    first = automix.training_step(images, labels, generator=torch.Generator().manual_seed(3))
    torch.rand(5)  # the global generator plays no part
    second = twin.training_step(images, labels, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.total, second.total)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_any_batch_size(automix, n):
    losses = automix.training_step(torch.randn(n, 3, 32, 32), torch.arange(n) % CLASSES)
    losses.total.backward()
    assert torch.isfinite(losses.total)


def test_mask_ratio_is_taken_for_each_sample_not_for_the_batch():
    # Means 0.2 and 0.8 average to lambda = 0.5 and would cost nothing over the batch; each is 0.3 off, 0.2 over.
    mask = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert float(mask_ratio_loss(mask, 0.5, margin=0.1)) == pytest.approx(0.2)


def test_mixed_cross_entropy_equals_soft_targets():
    logits, labels, index = torch.randn(3, CLASSES), torch.tensor([0, 4, 2]), torch.tensor([1, 2, 0])
    soft = 0.25 * F.one_hot(labels, CLASSES) + 0.75 * F.one_hot(labels[index], CLASSES)
    assert_close(mixed_loss(F.cross_entropy, logits, labels, index, 0.25), F.cross_entropy(logits, soft))
