"""Two processes over gloo fine-tune in Detectron2: one detector, one set of statistics, one that writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from d2_rank_jobs import batches, fine_tune, precise_statistics

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_precise_statistics_are_those_of_all_the_data(two_ranks):
    """Ranks with 5 and 12 pictures of different means: every rank gets the mean and variance of all 17 together.

    The average of the ranks' variances would lack the spread of their means, an average of the means the weights.
    """
    first, second = two_ranks.run(precise_statistics)
    alone = precise_statistics()
    assert (
        first.keys() == second.keys() == alone.keys() == {f"{n}.running_{s}" for n in (0, 2) for s in ("mean", "var")}
    )
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor, rtol=1e-5, atol=1e-5)
    pictures = torch.cat(batches())
    torch.testing.assert_close(first["0.running_mean"], pictures.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    variance = pictures.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(first["0.running_var"], variance, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_run_on_two_ranks(two_ranks, tmp_path, monkeypatch):
    """naiveSyncBN is Detectron2's SyncBN that a CPU has, too."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "transfer"))
    from voc_tree import write_voc

    from transfer.d2.job import Job

    write_voc(tmp_path)
    small = ["SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "(2,)", "SOLVER.WARMUP_ITERS", "1"]
    small += ["TEST.PRECISE_BN.NUM_ITER", "2", "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"]
    small += ["MODEL.RESNETS.NORM", "naiveSyncBN", "MODEL.FPN.NORM", "naiveSyncBN", "MODEL.DEVICE", "cpu"]
    config = ROOT / "configs" / "quickstart" / "voc_r18_fpn.yaml"
    job = Job(config, data_root=tmp_path, output=tmp_path / "run", overrides=small)
    first, second = two_ranks.run(fine_tune, job)
    assert first["digest"] == second["digest"]
    assert second["results"] == {}
    assert first["results"] == json.loads((tmp_path / "run" / "results.json").read_text())
    assert (first["results"]["batch"], first["results"]["world_size"]) == (4, 2)
    assert [len(first["seen"]), len(second["seen"])] == [6, 6]  # half of 3 x 4 pictures
    assert len({*first["seen"], *second["seen"]}) == 10  # the stream's first ten are the whole set: none twice
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines if "total_loss" in line] == [0, 1, 2]  # written once
    final = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert not any(name.startswith("module.") for name in final)
