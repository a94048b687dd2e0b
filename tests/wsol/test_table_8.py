"""The paper's Table 8: its figures, what trains each of them, and when a result may stand beside them."""

from __future__ import annotations

from typing import Any

import pytest

from pretrain.backbones import BackboneCard
from pretrain.training.settings import load_settings
from wsol.report.paper import COLUMNS, TABLE_8, beside, table_8

# Copied from the paper, row after row.
METHODS = ["vanilla", "mixup", "cutmix", "fmix", "puzzlemix", "comixup", "automix"]
PAPER = {
    "cub200/r18_200ep": [49.91, 48.62, 51.85, 50.30, 53.95, 54.13, 54.46],
    "cub200/rx50_200ep": [53.38, 50.27, 57.16, 59.80, 59.34, 59.76, 61.05],
}
CONFIGS = TABLE_8.parents[2] / "pretrain"
REFERENCE: dict[str, Any] = {
    "metric": "MaxBoxAccV2",
    "contours": "all",
    "interval": 0.001,
    "iou_thresholds": [30, 50, 70],
    "split": "test",
    "boxes_sha256": "e3557e61b70252ce" + "0" * 48,
    "cam": "cam",
    "label": "true class",
}


def card(arch: str = "resnet18", method: str = "automix", config: str = "cub200/r18_200ep") -> BackboneCard:
    return BackboneCard(arch, ("duck",), method=method, training={"name": config} if config else {})


def test_the_file_has_the_papers_figures() -> None:
    assert table_8() == {config: dict(zip(METHODS, figures)) for config, figures in PAPER.items()}
    assert TABLE_8.read_text(encoding="utf-8").startswith("# Table 8. ")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arch", COLUMNS)
def test_every_cell_has_a_config_that_trains_it(arch: str, method: str) -> None:
    """tools/pretrain.sh configs/pretrain/CONFIG.py --method METHOD; the alphas are appendix A.1's for CUB."""
    _, config = COLUMNS[arch]
    settings = load_settings(CONFIGS / f"{config}.py", method=method)
    assert settings.name == config
    assert settings.backbone.name == arch
    assert settings.optim.epochs == 200
    assert settings.method.name == method
    alphas = {"mixup": 1.0, "cutmix": 1.0, "fmix": 0.2, "puzzlemix": 1.0, "comixup": 2.0, "automix": 2.0}
    assert getattr(settings.method, "alpha", None) == alphas.get(method)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_result_measured_as_the_reference_does_is_comparable(column: str) -> None:
    backbone, config = COLUMNS[column]
    for arch in (column, f"{column}.tv_in1k"):
        found = beside(card(arch, "cutmix", config), REFERENCE)
        assert found is not None
        assert (found["table"], found["backbone"], found["comparable"]) == (8, backbone, True)
        assert found["method"] == "cutmix"
        assert list(found["figures"].values()) == PAPER[config]
        assert "resolution" in found["why"]
        assert "trained" not in found["why"]


def test_figures_below_the_centred_gaussian_are_named() -> None:
    """It reaches 56.83 on CUB's test split: above all of R-18's, and above Vanilla and MixUp of RX-50."""
    assert beside(card(), REFERENCE)["below_centre"] == METHODS  # type: ignore[index]
    assert beside(card("resnext50_32x4d"), REFERENCE)["below_centre"] == ["vanilla", "mixup"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes_sha256": "f4c409fad6f81276" + "0" * 48}, "not those of CUB's test split"),
        ({"boxes_sha256": ""}, "not those of CUB's test split"),
        ({"split": "val"}, "the split is val"),
        ({"interval": 0.01}, "0.01, not 0.001"),
        ({"contours": "largest"}, "not all contours"),
        ({"iou_thresholds": [50]}, "the IoU thresholds are 50, not"),
        ({"cam": "gradcam"}, "of 'gradcam'"),
        ({"cam": None}, "class activation maps"),
        ({"label": "predicted class"}, "of the predicted class"),
    ],
)
def test_each_other_way_of_measuring_is_not_comparable(change: dict[str, Any], words: str) -> None:
    found = beside(card(), {**REFERENCE, **change})
    assert found is not None
    assert not found["comparable"]
    assert words in found["why"]
    assert ";" not in found["why"]  # nothing else was wrong
    worse = beside(card(), {**REFERENCE, **change, "interval": 0.1})
    assert "0.1, not 0.001" in worse["why"]  # type: ignore[index]


def test_classifiers_of_another_recipe_are_named() -> None:
    found = beside(card(config="cub200/rx50_200ep"), REFERENCE)
    assert found is not None
    assert found["comparable"]
    assert "trained as cub200/r18_200ep is, and this one by cub200/rx50_200ep" in found["why"]
    assert "by another recipe" in beside(card(config=""), REFERENCE)["why"]  # type: ignore[index]


def test_other_networks_metrics_and_methods_have_no_place_in_it() -> None:
    assert beside(None, REFERENCE) is None
    assert beside(card("resnet50"), REFERENCE) is None
    assert beside(card(), {**REFERENCE, "metric": "PxAP"}) is None
    assert beside(card(method="random weights"), REFERENCE)["method"] is None  # type: ignore[index]
