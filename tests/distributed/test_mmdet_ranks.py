"""Two processes over gloo fine-tune in MMDetection: one detector, one that writes, and an exact resume on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmdet_rank_jobs import fine_tune

ROOT = Path(__file__).parents[2]
SMALL = (
    "auto_scale_lr.base_batch_size=4",
    "train_cfg.max_iters=4",
    "default_hooks.checkpoint.interval=2",
    "param_scheduler.1.milestones=[3]",
    "model.backbone.norm_eval=True",  # as each rank has statistics of its own, only the frozen ones can be compared
)


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "transfer"))
    from networks import randomised
    from squares import write_squares

    from transfer.convert import convert
    from transfer.files import save
    from transfer.mmdet.job import Job

    write_squares(tmp_path)
    weights = save(convert(randomised("resnet18"), "mmdet", head="fpn"), tmp_path / "r18.pth")
    config = ROOT / "configs" / "quickstart" / "coco_r18_fpn.py"
    return Job(config, weights, data_root=tmp_path, work_dir=tmp_path / "run", launcher="pytorch", options=SMALL)


@pytest.mark.slow
def test_a_run_on_two_ranks_and_its_resume(two_ranks, job):
    first, second = two_ranks.run(fine_tune, job)
    assert first["digest"] == second["digest"]
    assert second["results"] == {}
    run = job.work_dir
    assert first["results"] == json.loads((run / "results.json").read_text())
    assert (first["results"]["batch"], first["results"]["world_size"]) == (4, 2)
    assert [len(first["seen"]), len(second["seen"])] == [8, 8]  # half of 4 x 4 pictures
    assert len({*first["seen"][:4], *second["seen"][:4]}) == 8  # the stream's first eight are the whole set: none twice
    lines = (run / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 1, 2, 3]  # written once
    final = torch.load(run / "iter_4.pth", weights_only=True)["state_dict"]
    assert not any(name.startswith("module.") for name in final)

    # Killed after the second iteration: the same weights on both ranks, by the same command.
    (run / "iter_4.pth").unlink()
    (run / "results.json").unlink()
    again, _ = two_ranks.run(fine_tune, job)
    resumed = torch.load(run / "iter_4.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(resumed[name], tensor) for name, tensor in final.items())
    assert again["seen"] == first["seen"][4:]
    assert again["results"]["AP50"] == first["results"]["AP50"]
    assert again["results"]["loss_curve"] == first["results"]["loss_curve"]

    # One process evaluates to the same figures as two, each of which saw half of the pictures.
    alone = fine_tune(replace(job, launcher="none", eval_only=True))
    assert alone["results"]["AP"] == first["results"]["AP"]
    assert alone["results"]["per_class_AP50"] == first["results"]["per_class_AP50"]


@pytest.mark.slow
def test_srun_begins_the_processes(job):
    """Two tasks with what SLURM sets, and no torchrun's variables; the second one holds its tongue."""
    command = [sys.executable, "tools/finetune_mmdet.py", job.config, "--weights", job.weights, "--launcher", "slurm"]
    command += ["--data-root", job.data_root, "--work-dir", job.work_dir, "--cfg-options", *SMALL]
    command += ["train_cfg.max_iters=1", "default_hooks.checkpoint.interval=1"]
    torchs = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    base = {name: value for name, value in os.environ.items() if name not in torchs}
    slurm = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NODELIST": "127.0.0.1"}  # a port of its own
    tasks = []
    for rank in "01":
        own = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": "0", "SLURM_STEP_NUM_TASKS": "2"}
        env = {**base, **slurm, **own, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        tasks.append(subprocess.Popen(command, cwd=ROOT, env=env, text=True, **pipes))
    told = [task.communicate(timeout=300) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], told
    assert told[0][0].startswith("coco_r18_fpn from state dict, seed 0: AP ")
    assert told[1] == ("", "")
    assert json.loads((job.work_dir / "results.json").read_text())["world_size"] == 2
