"""The classification losses of the recipes, in both branches: soft cross-entropy, label smoothing, BCE."""

import pytest
import torch
from pydantic import ValidationError
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.automix import AutoMix, LossSettings, MixBlock, build_criterion
from pretrain.automix.losses import mixed_loss
from pretrain.backbones import build_backbone

LOGITS = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 1.0, -2.0, 3.0]])
LABELS, INDEX = torch.tensor([0, 3]), torch.tensor([1, 0])


def test_soft_cross_entropy():
    criterion = build_criterion(LossSettings())
    targets = torch.tensor([[0.3, 0.0, 0.0, 0.7], [0.7, 0.0, 0.0, 0.3]])
    assert_close(mixed_loss(criterion, LOGITS, LABELS, INDEX, 0.3), SoftTargetCrossEntropy()(LOGITS, targets))
    assert_close(criterion(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))


def test_label_smoothing_comes_on_top_of_mixed_labels():
    criterion = build_criterion(LossSettings(smoothing=0.1))
    smooth = 0.9 * torch.tensor([[0.3, 0.0, 0.0, 0.7], [0.7, 0.0, 0.0, 0.3]]) + 0.1 / 4
    assert_close(mixed_loss(criterion, LOGITS, LABELS, INDEX, 0.3), SoftTargetCrossEntropy()(LOGITS, smooth))
    assert_close(criterion(LOGITS, LABELS), LabelSmoothingCrossEntropy(0.1)(LOGITS, LABELS))


@pytest.mark.parametrize(("threshold", "targets"), [(None, [[0.15, 0.85], [0.85, 0.15]]), (0.2, [[0, 1], [1, 0]])])
def test_bce_sums_over_the_classes(threshold, targets):
    criterion = build_criterion(LossSettings(name="bce", target_threshold=threshold))
    logits = torch.tensor([[1.0, -0.5], [0.2, 2.0]])
    loss = mixed_loss(criterion, logits, torch.tensor([0, 1]), INDEX, 0.15)
    t, p = torch.tensor(targets), torch.sigmoid(logits)
    assert_close(loss, -(t * p.log() + (1 - t) * (1 - p).log()).sum(dim=1).mean())
    one_hot = torch.eye(2)
    assert_close(
        criterion(logits, torch.tensor([0, 1])),
        -(one_hot * p.log() + (1 - one_hot) * (1 - p).log()).sum(dim=1).mean(),
    )


@pytest.mark.parametrize("settings", [{"name": "bce"}, {"smoothing": 0.1}])
def test_student_and_teacher_branch_have_the_same_loss(settings):
    torch.manual_seed(0)
    criterion = build_criterion(LossSettings(**settings))
    network = build_backbone("cifar_resnet20", 4)
    torch.nn.init.normal_(network.fc.weight)  # logits far enough from zero for the losses to differ
    automix = AutoMix(network, MixBlock(64), criterion=criterion)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    index = torch.tensor([1, 2, 3, 0])
    losses = automix.training_step(images, labels, 0.3, 0.3, index, index)
    # At the start the teacher is the student, and both see the same mixed images.
    assert_close(losses.mixed_ce, losses.generation_ce)
    automix.criterion = torch.nn.CrossEntropyLoss()
    reference = automix.training_step(images, labels, 0.3, 0.3, index, index)
    assert abs(losses.mixed_ce - reference.mixed_ce) > 1e-2
    assert abs(losses.ce - reference.ce) > 1e-2


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"name": "bce", "smoothing": 0.1}, "smoothing belongs to 'ce'"), ({"target_threshold": 0.2}, "belongs to 'bce'")],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValidationError, match=message):
        LossSettings(**settings)
