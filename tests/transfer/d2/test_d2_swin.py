"""Swin-T as a detector's backbone: trained and brought back where Detectron2 has it, refused in one line on v0.6."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from networks import randomised
from voc_tree import write_voc

from pretrain.console import UserError
from transfer.architectures import SWIN
from transfer.compat import detectron2_folder
from transfer.convert import convert
from transfer.d2.finetune import Job, finetune
from transfer.files import save
from transfer.layouts import read_source

FPN = Path(__file__).parents[3] / "configs" / "d2" / "coco_r50_fpn_1x.yaml"
SETTINGS = {
    "MODEL.BACKBONE.NAME": "build_swin_t_fpn_backbone",
    "MODEL.ROI_HEADS.NUM_CLASSES": "20",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "DATASETS.TRAIN": "('voc_2007_trainval',)",
    "DATASETS.TEST": "('voc_2007_test',)",
    "DATALOADER.NUM_WORKERS": "0",
    "INPUT.MIN_SIZE_TRAIN": "(96,)",
    "INPUT.MIN_SIZE_TEST": "96",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.OPTIMIZER": "ADAMW",
    "SOLVER.BASE_LR": "0.0001",
    "SOLVER.MAX_ITER": "2",
    "SOLVER.STEPS": "(1,)",
    "TEST.PRECISE_BN.NUM_ITER": "1",
}


def test_swin_detector(tmp_path: Path) -> None:
    write_voc(tmp_path)
    weights = save(convert(randomised(SWIN), "detectron2"), tmp_path / "swin.pth")
    settings = [word for pair in SETTINGS.items() for word in pair]
    job = Job(config=FPN, weights=weights, data_root=tmp_path, output=tmp_path / "run", overrides=settings)
    if not (detectron2_folder() / "modeling" / "backbone" / "swin.py").is_file():
        with pytest.raises(UserError, match=r"v0\.6, which has no Swin transformer"):
            finetune(job)
        return
    assert finetune(job)["iterations"] == 2
    tuned = read_source(tmp_path / "run" / "model_final.pth")
    assert (tuned.card.arch, tuned.network.framework, tuned.preprocessing_known) == (SWIN, "detectron2", True)
    start = read_source(randomised(SWIN))
    assert tuned.weights.keys() == {name for name in start.weights if not name.startswith("head.")}
    moved = [name for name, tensor in tuned.weights.items() if not torch.equal(tensor, start.weights[name])]
    assert len(moved) > 0.9 * len(tuned.weights)  # trained: nearly every tensor is another
    nearest = max((tuned.weights[name] - start.weights[name]).abs().max().item() for name in moved)
    assert nearest < 0.01  # from these weights: two steps of 1e-4 do not lead far
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["SOLVER.OPTIMIZER"] == "ADAMW"
