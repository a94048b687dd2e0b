"""--scale-to against Detectron2's own rescaling, and what it refuses and warns of."""

from __future__ import annotations

from pathlib import Path

import pytest

from transfer.compat import prepare_detectron2

prepare_detectron2()

from detectron2.engine import DefaultTrainer  # noqa: E402

from transfer.d2.config import load_config  # noqa: E402
from transfer.d2.scale import SCALED, batch_problems, batch_warnings, scale_to  # noqa: E402
from transfer.finetuning.scaling import Change, scaling_problems  # noqa: E402

CONFIGS = Path(__file__).parents[3] / "configs" / "d2"
VOC, COCO = CONFIGS / "voc_r50_c4_24k.yaml", CONFIGS / "coco_r50_fpn_1x.yaml"
PERIODS = ["TEST.EVAL_PERIOD", "3000", "SOLVER.CHECKPOINT_PERIOD", "2500"]


@pytest.mark.parametrize("path", [VOC, COCO], ids=lambda path: path.stem)
@pytest.mark.parametrize("images", [1, 2, 3, 7, 16, 24, 48, 64])
def test_as_detectron2_scales(path: Path, images: int) -> None:
    cfg = load_config(path, None, PERIODS)
    reference = cfg.clone()
    reference.SOLVER.REFERENCE_WORLD_SIZE = reference.SOLVER.IMS_PER_BATCH  # so its workers are our images
    reference = DefaultTrainer.auto_scale_workers(reference, images)
    scale_to(cfg, images)
    for key in ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER", "WARMUP_ITERS", "STEPS", "CHECKPOINT_PERIOD"):
        assert cfg.SOLVER[key] == reference.SOLVER[key], key
    assert cfg.TEST.EVAL_PERIOD == reference.TEST.EVAL_PERIOD
    assert cfg.SOLVER.MAX_ITER * images == pytest.approx(16 * load_config(path, None).SOLVER.MAX_ITER, rel=1e-3)
    assert cfg.TEST.PRECISE_BN.NUM_ITER * images == pytest.approx(16 * 200, abs=images / 2)  # as many images


def test_the_protocol_on_one_gpu() -> None:
    """2 images a step instead of 16: an eighth of the rate, eight times the iterations."""
    cfg = load_config(VOC, None)
    changes = scale_to(cfg, 2)
    assert [change.key for change in changes] == list(SCALED)
    assert Change("SOLVER.BASE_LR", 0.02, 0.0025) in changes
    assert Change("SOLVER.STEPS", (18000, 22000), (144000, 176000)) in changes
    assert Change("SOLVER.WARMUP_ITERS", 100, 800) in changes
    assert (cfg.SOLVER.MAX_ITER, cfg.TEST.PRECISE_BN.NUM_ITER, cfg.TEST.EVAL_PERIOD) == (192000, 1600, 0)


def test_nothing_scaled_away_and_nothing_scaled_to_itself() -> None:
    cfg = load_config(VOC, None, ["TEST.PRECISE_BN.NUM_ITER", "1"])
    assert scale_to(cfg, 16) == []
    scale_to(cfg, 64)
    assert cfg.TEST.PRECISE_BN.NUM_ITER == 1  # a quarter of a pass would be none


def test_contradictions_are_named_all_at_once() -> None:
    given = {"SOLVER.BASE_LR": "command line", "SOLVER.STEPS": "command line", "SOLVER.MAX_ITER": "own.yaml"}
    lines = scaling_problems(4, SCALED, given)
    assert [line.split()[2] for line in lines] == ["SOLVER.BASE_LR", "SOLVER.STEPS"]
    assert "contradicts --scale-to 4" in lines[0]
    assert scaling_problems(4, SCALED, {"MODEL.MASK_ON": "command line"}) == []
    assert scaling_problems(0, SCALED, {}) == ["--scale-to 0: a step needs at least one image"]


def test_images_must_divide_among_all_ranks() -> None:
    cfg = load_config(VOC, None)
    cfg.MODEL.DEVICE = "cuda"
    assert batch_problems(cfg, 16) == []
    assert batch_problems(cfg, 24) == ["SOLVER.IMS_PER_BATCH is 16, which cannot be divided among 24 processes"]


def test_sync_bn_on_several_cpu_processes_is_refused() -> None:
    cfg = load_config(COCO, None, ["MODEL.DEVICE", "cpu"])
    assert batch_problems(cfg, 1) == []
    [first, second] = batch_problems(cfg, 2)
    assert first.startswith("MODEL.RESNETS.NORM is SyncBN")
    assert second.endswith("on 2 CPU processes set MODEL.FPN.NORM naiveSyncBN")


def test_small_batches_warn() -> None:
    cfg = load_config(VOC, None)
    assert batch_warnings(cfg, 8) == []
    [line] = batch_warnings(cfg, 16)
    assert line.startswith("MODEL.RESNETS.NORM is SyncBN and a process has 1 image a step")
    cfg = load_config(VOC, None, ["MODEL.RESNETS.NORM", "BN"])
    assert batch_warnings(cfg, 1) == []
    [line] = batch_warnings(cfg, 8)
    assert "by its own 2 of 16 images" in line
    cfg = load_config(COCO, None)
    assert len(batch_warnings(cfg, 16)) == 2  # backbone and pyramid
