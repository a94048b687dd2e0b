"""Detectron2's configs: every file builds, the card decides the preprocessing, and nothing misspelt gets through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.d2.config import head_of, load_config
from transfer.d2.features import build_model

ROOT = Path(__file__).parents[3]
FILES = sorted([*(ROOT / "configs" / "d2").glob("*.yaml"), *(ROOT / "configs" / "quickstart").glob("*.yaml")])
R18 = BackboneCard(arch="resnet18", classes=())
R50 = BackboneCard(arch="resnet50", classes=())
QUICKSTART = ROOT / "configs" / "quickstart" / "voc_r18_fpn.yaml"
VOC = ROOT / "configs" / "d2" / "voc_r50_c4_24k.yaml"


def test_there_are_configs() -> None:
    assert {QUICKSTART, VOC} <= set(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_builds(path: Path) -> None:
    cfg = load_config(path, R18 if "r18" in path.stem else R50, ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    # std of the card in Detectron2's units; 1, its default, is 19 to 34 times off at the last stage
    assert pytest.approx([58.395, 57.12, 57.375]) == cfg.MODEL.PIXEL_STD
    assert pytest.approx([123.675, 116.28, 103.53]) == cfg.MODEL.PIXEL_MEAN
    assert (cfg.INPUT.FORMAT, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("RGB", False)
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert not any(type(module).__name__ == "FrozenBatchNorm2d" for module in model.modules())
    if head_of(cfg) == "c4":
        assert isinstance(model.roi_heads.res5.norm, torch.nn.SyncBatchNorm)


def test_papers_protocol() -> None:
    """The numbers of MoCo's detection configs, on which the paper's Table 7 rests."""
    cfg = load_config(VOC, R50)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER) == (0.02, 16, 24000)
    assert (cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WEIGHT_DECAY) == ((18000, 22000), 100, 1e-4)
    assert tuple(range(480, 801, 32)) == cfg.INPUT.MIN_SIZE_TRAIN
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TRAIN) == (800, 1333)
    assert (cfg.MODEL.RPN.PRE_NMS_TOPK_TEST, cfg.MODEL.RPN.POST_NMS_TOPK_TEST) == (6000, 1000)
    assert cfg.TEST.PRECISE_BN.ENABLED
    assert not cfg.MODEL.MASK_ON
    coco = load_config(VOC.parent / "coco_r50_c4_2x.yaml", R50)
    assert (coco.SOLVER.STEPS, coco.SOLVER.MAX_ITER, coco.SOLVER.WARMUP_ITERS) == ((120000, 160000), 180000, 1000)
    assert (tuple(range(640, 801, 32)), 80) == (coco.INPUT.MIN_SIZE_TRAIN, coco.MODEL.ROI_HEADS.NUM_CLASSES)


def test_card_decides_the_preprocessing() -> None:
    card = replace(R18, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), channel_order="BGR")
    cfg = load_config(QUICKSTART, card)
    assert cfg.MODEL.PIXEL_MEAN == [127.5] * 3
    assert cfg.MODEL.PIXEL_STD == [63.75] * 3
    assert cfg.INPUT.FORMAT == "BGR"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.FORMAT", "BGR"),
        ("MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"),
        ("MODEL.PIXEL_MEAN", "[103.53, 116.28, 123.675]"),
        ("MODEL.RESNETS.STRIDE_IN_1X1", "True"),
    ],
)
def test_contradictions_are_refused(key: str, value: str, tmp_path: Path) -> None:
    """Also where the contradicting value is Detectron2's default."""
    with pytest.raises(UserError, match=rf"{key} is .*resnet18.*take it out"):
        load_config(QUICKSTART, R18, [key, value])
    *sections, last = key.split(".")
    lines = [f'_BASE_: "{QUICKSTART}"'] + [f"{'  ' * depth}{name}:" for depth, name in enumerate(sections)]
    (tmp_path / "own.yaml").write_text("\n".join([*lines, f"{'  ' * len(sections)}{last}: {value}"]))
    with pytest.raises(UserError, match=rf"own\.yaml: {key} is .*take it out"):
        load_config(tmp_path / "own.yaml", R18)


def test_agreeing_values_are_accepted() -> None:
    load_config(QUICKSTART, R18, ["MODEL.PIXEL_MEAN", "[123.675, 116.280, 103.530]", "INPUT.FORMAT", "RGB"])


def test_misspelt_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key SOLVER\.BASE_LT; did you mean 'SOLVER\.BASE_LR'"):
        load_config(QUICKSTART, R18, ["SOLVER.BASE_LT", "0.1"])
    with pytest.raises(UserError, match=r"SOLVER\.BASE_LR has no partner"):
        load_config(QUICKSTART, R18, ["SOLVER.BASE_LR"])
    with pytest.raises(UserError, match=r"command line: SOLVER\.STEPS 5"):
        load_config(QUICKSTART, R18, ["SOLVER.STEPS", "5"])
    (tmp_path / "own.yaml").write_text(f'_BASE_: "{QUICKSTART}"\nSOLVER:\n  MAX_ITERS: 5\n')
    with pytest.raises(UserError, match=r"own\.yaml: unknown key SOLVER\.MAX_ITERS; did you mean 'SOLVER\.MAX_ITER'"):
        load_config(tmp_path / "own.yaml", R18)
    (tmp_path / "own.yaml").write_text("SOLVER: [")
    with pytest.raises(UserError, match=r"own\.yaml: cannot be read as YAML"):
        load_config(tmp_path / "own.yaml", R18)
    with pytest.raises(UserError, match="no such config"):
        load_config(tmp_path / "nowhere.yaml", R18)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(UserError, match=r"DEPTH 18.*than the weights', resnet50; set MODEL\.RESNETS\.DEPTH 50"):
        load_config(QUICKSTART, R50)


def test_bottleneck_head_for_resnet18_is_refused() -> None:
    shallow = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    load_config(VOC, R18, shallow)
    with pytest.raises(UserError, match="Bottleneck blocks, which resnet18 does not have"):
        load_config(VOC, R18, [*shallow, "MODEL.ROI_HEADS.NAME", "Res5ROIHeads"])


def test_weights_by_another_road_are_refused() -> None:
    with pytest.raises(UserError, match=r"MODEL\.WEIGHTS is set"):
        load_config(QUICKSTART, R18, ["MODEL.WEIGHTS", "somewhere.pkl"])


def test_the_published_configs_train_by_sgd_and_an_unknown_optimizer_is_refused() -> None:
    assert load_config(ROOT / "configs/d2/voc_r50_c4_24k.yaml", R50).SOLVER.OPTIMIZER == "SGD"
    assert load_config(QUICKSTART, R18).SOLVER.OPTIMIZER == "ADAMW"
    with pytest.raises(UserError, match=r"SOLVER\.OPTIMIZER is ADAM; it can be SGD or ADAMW"):
        load_config(QUICKSTART, R18, ["SOLVER.OPTIMIZER", "ADAM"])
