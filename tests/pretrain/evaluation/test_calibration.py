"""The expected calibration error and its bins, against torchmetrics and by hand."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from pretrain.evaluation.calibration import BINS, CalibrationMeter


def measured(probabilities, labels):
    """Measure in two batches; the logarithm of probabilities are logits."""
    meter = CalibrationMeter(probabilities.shape[1])
    half = (len(labels) + 1) // 2
    for part in (slice(half), slice(half, None)):
        if len(labels[part]):
            meter.update(probabilities[part].log(), labels[part])
    return meter.compute()


def two_classes(confidences):
    first = torch.tensor(confidences)
    return torch.stack([first, 1 - first], dim=1)


def test_agrees_with_torchmetrics_and_with_its_own_bins():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4000, 10, generator=generator)
    labels = torch.where(
        torch.rand(4000, generator=generator) < 0.6,
        logits.argmax(dim=1),
        torch.randint(10, (4000,), generator=generator),
    )
    found = measured(logits.softmax(dim=1), labels)
    expected = multiclass_calibration_error(logits.softmax(dim=1), labels, num_classes=10, n_bins=15, norm="l1")
    assert found.ece == pytest.approx(100 * float(expected), abs=1e-4)
    gaps = [
        abs(accuracy - confidence) * count / 4000
        for accuracy, confidence, count in zip(found.accuracy, found.confidence, found.counts, strict=True)
        if count
    ]
    assert 100 * sum(gaps) == pytest.approx(found.ece, abs=1e-4)
    assert sum(found.counts) == 4000
    right = (logits.argmax(dim=1) == labels).float().mean()
    means = [accuracy * count for accuracy, count in zip(found.accuracy, found.counts, strict=True) if count]
    assert sum(means) / 4000 == pytest.approx(float(right))


def test_by_hand():
    # Sure by 0.95, 0.95 and 0.61, and right, wrong, right: |0.5 - 0.95| * 2/3 + |1 - 0.61| * 1/3 = 0.43.
    found = measured(two_classes([0.95, 0.95, 0.61]), torch.tensor([0, 1, 0]))
    assert found.ece == pytest.approx(43.0, abs=1e-4)
    assert found.counts == (0,) * 9 + (1,) + (0,) * 4 + (2,)
    assert found.confidence[14] == pytest.approx(0.95)
    assert found.accuracy[14] == 0.5
    assert found.confidence[9] == pytest.approx(0.61)
    assert found.accuracy[9] == 1.0
    assert found.confidence[0] is None
    assert found.accuracy[0] is None


def test_the_lower_edge_belongs_to_a_bin():
    equal = torch.zeros(1, 3)  # sure by a third, the edge between bins 4 and 5
    assert float(equal.softmax(1).max()) == float(torch.linspace(0, 1, BINS + 1)[5])
    meter = CalibrationMeter(3)
    meter.update(equal, torch.tensor([0]))
    assert meter.compute().counts == (0,) * 5 + (1,) + (0,) * 9


def test_full_certainty_is_of_the_last_bin():
    # 0.95 and right: too cautious by 0.05; 1.0 and wrong: too sure by 1. One bin, so they make up for each other:
    # |1/2 - 0.975| = 0.475. In two bins it would be (0.05 + 1) / 2.
    logits = torch.tensor([[0.95, 0.05]]).log().repeat(2, 1)
    logits[1] = torch.tensor([100.0, 0.0])
    meter = CalibrationMeter(2)
    meter.update(logits, torch.tensor([0, 1]))
    found = meter.compute()
    assert found.counts == (0,) * 14 + (2,)
    assert found.ece == pytest.approx(47.5, abs=1e-4)


def test_bins_are_plain_values():
    found = measured(two_classes([0.9]), torch.tensor([0])).bins()
    assert set(found) == {"confidence", "accuracy", "counts"}
    assert all(isinstance(each, list) and len(each) == BINS for each in found.values())
