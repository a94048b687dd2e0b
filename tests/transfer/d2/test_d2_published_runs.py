"""The published configs from end to end on a dozen pictures: C4 and FPN, VOC and COCO, boxes and masks.

Everything but the size is as published: SyncBN, which is plain BatchNorm in one process, PreciseBN, the extra norm.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from coco_rectangles import CATEGORY, write_coco
from networks import randomised
from voc_tree import write_voc

from pretrain.console import UserError
from transfer.convert import convert
from transfer.d2 import finetune as room
from transfer.d2.finetune import Job, finetune
from transfer.d2.trainer import Trainer
from transfer.files import save

CONFIGS = Path(__file__).parents[3] / "configs" / "d2"
SMALL = {
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.MAX_ITER": "3",
    "SOLVER.STEPS": "(2,)",
    "SOLVER.WARMUP_ITERS": "2",
    "SOLVER.CHECKPOINT_PERIOD": "1",
    "TEST.PRECISE_BN.NUM_ITER": "2",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "16",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": "32",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "8",
    "INPUT.MIN_SIZE_TRAIN": "(96,)",
    "INPUT.MIN_SIZE_TEST": "96",
    "INPUT.MAX_SIZE_TRAIN": "128",
    "INPUT.MAX_SIZE_TEST": "128",
    "DATALOADER.NUM_WORKERS": "0",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
}


def small(**more: str) -> list[str]:
    settings = {**SMALL, **{key.replace("__", "."): value for key, value in more.items()}}
    return [word for pair in settings.items() for word in pair]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and weights of a ResNet-18 for both heads."""
    path = tmp_path_factory.mktemp("published")
    write_voc(path)
    write_coco(path)
    for head in ("c4", "fpn"):
        save(convert(randomised("resnet18"), "detectron2", head=head), path / f"{head}.pth")
    return path


JOBS = {
    "voc_r18_c4_24k": ("c4", small()),
    "coco_r18_fpn_1x": ("fpn", small(MODEL__MASK_ON="True")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_train_evaluate_and_go_on(name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three iterations; then three with Ctrl-C in the last and a second sitting: the same to the last bit."""
    head, overrides = JOBS[name]
    job = Job(CONFIGS / f"{name}.yaml", folder / f"{head}.pth", data_root=folder, seed=1, overrides=overrides)
    whole = finetune(replace(job, output=tmp_path / "whole"))
    step = Trainer.run_step

    def interrupted(trainer: Trainer) -> None:
        if trainer.iter == 2:
            raise KeyboardInterrupt
        step(trainer)

    again = replace(job, output=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(again)
    results = finetune(again)
    for key in ("AP", "AP50", "AP75", "mask_AP", "loss_curve", "per_class_AP50"):
        assert results[key] == whole[key]
    ours, theirs = (
        torch.load(run / "model_final.pth", weights_only=True)["model"]
        for run in (tmp_path / "again", tmp_path / "whole")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert results["iterations"] == 3
    assert (results["batch"], results["world_size"], results["scaling"]) == (2, 1, {})
    assert (results["mask_AP"] is None) == (head == "c4")
    assert results["what"].startswith(
        "Mask R-CNN" if head == "fpn" else "Faster R-CNN fine-tuned on voc_2007_trainval +"
    )
    if head == "c4":  # the extra norm learned, and PreciseBN gave it statistics
        norm = {key: ours[f"roi_heads.res5.norm.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
        assert not norm["weight"].eq(1).all()
        assert not norm["bias"].eq(0).any()
        assert norm["running_mean"].abs().min() > 0

    # --eval-only, of the last checkpoint and of a named one, which leaves the run's own figures alone.
    before = (tmp_path / "again" / "results.json").read_text()
    named = replace(again, eval_only=True, checkpoint=tmp_path / "again" / "model_0000001.pth")
    assert finetune(named)["iterations"] == 2
    assert (tmp_path / "again" / "results.json").read_text() == before
    assert json.loads((tmp_path / "again" / "results-model_0000001.json").read_text())["loss_curve"] == []
    evaluated = finetune(replace(again, eval_only=True))
    assert [evaluated[key] for key in ("AP", "AP50", "iterations")] == [
        whole[key] for key in ("AP", "AP50", "iterations")
    ]


def test_c4_with_masks_trains(folder: Path, tmp_path: Path) -> None:
    """Two iterations of Mask R-CNN C4: the mask head takes what leaves the extra norm."""
    overrides = small(MODEL__MASK_ON="True", SOLVER__MAX_ITER="2", SOLVER__STEPS="(1,)")
    overrides += ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    job = Job(CONFIGS / "coco_r50_c4_1x.yaml", folder / "c4.pth", data_root=folder, overrides=overrides)
    results = finetune(replace(job, output=tmp_path))
    assert results["what"].startswith("Mask R-CNN fine-tuned on coco_2017_train, tested on coco_2017_val")
    assert results["mask_AP"] is not None
    assert len(results["per_class_AP50"]) == 80
    assert results["per_class_AP50"][f"class {CATEGORY}"] is not None  # the only one with objects
    losses = json.loads((tmp_path / "metrics.json").read_text().splitlines()[0])
    assert losses["loss_mask"] > 0


def test_scaled_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--scale-to is stated on the screen and in results.json, and has a folder of its own."""
    monkeypatch.chdir(tmp_path)
    overrides = [word for pair in SMALL.items() for word in pair if not pair[0].startswith(("SOLVER", "TEST"))]
    (tmp_path / "short.yaml").write_text(
        f'_BASE_: "{CONFIGS / "voc_r18_c4_24k.yaml"}"\n'
        "SOLVER: {MAX_ITER: 1, STEPS: [], WARMUP_ITERS: 0, IMS_PER_BATCH: 4}\nTEST: {PRECISE_BN: {NUM_ITER: 1}}\n"
    )
    results = finetune(Job(tmp_path / "short.yaml", folder / "c4.pth", folder, scale_to=2, overrides=overrides))
    assert (results["iterations"], results["batch"]) == (2, 2)
    assert results["scaling"]["SOLVER.BASE_LR"] == [0.02, 0.01]
    assert results["scaling"]["SOLVER.MAX_ITER"] == [1, 2]
    assert results["settings"]["SOLVER.BASE_LR"] == 0.01
    assert (tmp_path / "work_dirs/d2/short/state-dict-seed0-batch2/results.json").is_file()
    told = capsys.readouterr().err
    assert "linear scaling" in told
    assert "SOLVER.BASE_LR" in told


def test_checkpoint_of_another_detector_is_refused(folder: Path, tmp_path: Path) -> None:
    job = Job(CONFIGS / "voc_r18_c4_24k.yaml", folder / "c4.pth", data_root=folder, output=tmp_path, overrides=small())
    with pytest.raises(UserError, match=r"x\.pth: --checkpoint goes with --eval-only"):
        finetune(replace(job, checkpoint=tmp_path / "x.pth"))
    named = replace(job, eval_only=True, checkpoint=tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: no such file"):
        finetune(named)
    (tmp_path / "x.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"x\.pth: not a checkpoint of this tool's runs \("):
        finetune(named)
    torch.save({"model": {"backbone.stem.conv1.weight": torch.zeros(1)}, "iteration": 3}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: another detector .*; \d+ tensors differ, the first backbone\.stem"):
        finetune(named)
    assert not (tmp_path / room.RUN).exists()
