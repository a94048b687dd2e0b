"""Fine-tuning from end to end on ten pictures: exact weights, exact resume, refusals, and the files it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks import randomised
from PIL import Image
from voc_tree import write_voc

import transfer.d2.trainer
from pretrain.console import UserError
from transfer.convert import convert
from transfer.d2 import finetune as room
from transfer.d2.features import build_model
from transfer.d2.finetune import Job, finetune
from transfer.files import save
from transfer.weights import load_exact

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart" / "voc_r18_fpn.yaml"
SMALL = ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "6", "SOLVER.STEPS", "(5,)", "SOLVER.WARMUP_ITERS", "2"]
SMALL += ["SOLVER.CHECKPOINT_PERIOD", "2", "TEST.PRECISE_BN.NUM_ITER", "1", "MODEL.FPN.OUT_CHANNELS", "16"]
SMALL += ["MODEL.ROI_BOX_HEAD.FC_DIM", "16"]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("finetune")
    write_voc(folder)
    weights = save(convert(randomised("resnet18"), "detectron2", head="fpn"), folder / "r18.pth")
    return Job(config=QUICKSTART, weights=weights, data_root=folder, overrides=SMALL, seed=3)


@pytest.fixture(scope="module")
def whole(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole")
    finetune(replace(job, output=output, draw=2, draw_threshold=0.0))
    return output


def test_files_of_a_run(whole: Path, job: Job) -> None:
    results = json.loads((whole / "results.json").read_text())
    assert {"AP", "AP50", "AP75", "per_class_AP50", "iterations", "seconds", "seed", "what"} <= set(results)
    assert (results["config"], results["start"], results["seed"]) == ("voc_r18_fpn", "state dict", 3)
    assert (results["iterations"], len(results["per_class_AP50"])) == (6, 20)
    assert results["AP50"] == pytest.approx(sum(results["per_class_AP50"].values()) / 20, abs=1e-3)
    assert results["settings"]["SOLVER.MAX_ITER"] == 6
    assert [step for step, _ in results["loss_curve"]] == list(range(6))
    kept = ["model_0000003.pth", "model_0000005.pth", "model_final.pth"]  # of three periodic ones the last two
    assert sorted(path.name for path in whole.glob("*.pth")) == kept
    drawn = sorted((whole / "detections").glob("*.png"))
    assert [path.stem for path in drawn] == ["2007_test_0", "2007_test_1"]
    assert min(Image.open(drawn[0]).size) == 360
    assert "122 tensors" not in (log := (whole / "log.txt").read_text())
    assert "120 tensors loaded by exact names" in log


def test_frameworks_chatter_stays_in_the_log(whole: Path, job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    finetune(replace(job, output=whole, eval_only=True))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert all(line.startswith("evaluating on voc_2007_test") for line in printed.err.splitlines())


def test_finished_run_is_not_repeated(whole: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.launch, "run", lambda *_, **__: pytest.fail("trained again"))
    assert finetune(replace(job, output=whole, draw=2))["iterations"] == 6


@pytest.mark.slow
def test_killed_run_goes_on_exactly(whole: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the sixth iteration, after the checkpoint of the fourth: the end is the same to the last bit."""
    step = transfer.d2.trainer.Trainer.run_step

    def interrupted(trainer: transfer.d2.trainer.Trainer) -> None:
        if trainer.iter == 5:
            raise KeyboardInterrupt
        step(trainer)

    mine = replace(job, output=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(transfer.d2.trainer.Trainer, "run_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(mine)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    assert not (tmp_path / "results.json").exists()
    results = finetune(mine)
    assert [step for step, _ in results["loss_curve"]] == list(range(6))
    for name in ("model_0000005.pth", "model_final.pth"):
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (tmp_path, whole))
        assert ours["iteration"] == theirs["iteration"] == 5
        for key, tensor in theirs["model"].items():
            assert torch.equal(ours["model"][key], tensor), key
        assert ours["trainer"]["hooks"]["LRScheduler"] == theirs["trainer"]["hooks"]["LRScheduler"]
        momenta = [run["optimizer"]["state"] for run in (ours["trainer"]["_trainer"], theirs["trainer"]["_trainer"])]
        assert momenta[0].keys() == momenta[1].keys() != set()
        for index in momenta[1]:
            assert momenta[0][index].keys() == momenta[1][index].keys() != set()
            assert all(torch.equal(momenta[0][index][name], tensor) for name, tensor in momenta[1][index].items())
    assert not list(tmp_path.glob(".*"))


def begun_by_torchrun(patch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    """Set what torchrun would set; nothing here gets as far as meeting the other processes."""
    values = {"TORCHELASTIC_RUN_ID": "x", "RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    for name, value in values.items():
        patch.setenv(name, str(value))


def test_folder_of_another_run_is_refused(whole: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="another seed"):
        finetune(replace(job, output=whole, seed=4))
    with pytest.raises(UserError, match="another start"):
        finetune(replace(job, output=whole, weights=None))
    with pytest.raises(UserError, match=r"another SOLVER\.BASE_LR \(0\.0005, now 0\.5\).*--resume"):
        finetune(replace(job, output=whole, overrides=[*SMALL, "SOLVER.BASE_LR", "0.5"]))
    begun_by_torchrun(monkeypatch, rank=0, world=2)
    with pytest.raises(UserError, match=r"another world size \(1, now 2\).*--resume"):
        finetune(replace(job, output=whole))


def test_only_the_first_process_writes(whole: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second claims a new folder and a finished one: it leaves nothing in the first and returns nothing."""
    begun_by_torchrun(monkeypatch, rank=1, world=2)
    monkeypatch.setattr(room.launch, "run", lambda *_, **__: None)
    assert finetune(replace(job, output=tmp_path / "run")) == {}
    assert not (tmp_path / "run").exists()
    before = {path: path.read_bytes() for path in whole.glob("*.json")}
    assert finetune(replace(job, output=whole, resume=True)) == {}
    assert {path: path.read_bytes() for path in whole.glob("*.json")} == before


def test_memory_that_does_not_suffice_is_one_line(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_step(trainer: transfer.d2.trainer.Trainer) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transfer.d2.trainer.Trainer, "run_step", run_step)
    with pytest.raises(UserError, match=r"does not hold iteration 0 with 2 images a GPU; .*--scale-to"):
        finetune(replace(job, output=tmp_path))


def test_machines_without_a_common_folder_are_told(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.d2.trainer.comm, "all_gather", lambda start: [start, start + 4])
    with pytest.raises(UserError, match=r"different iterations \(0, 4\); --output must be one folder"):
        finetune(replace(job, output=tmp_path))


def test_loss_that_is_no_number_stops_the_run(job: Job, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"infinite or NaN at iteration \d; lower SOLVER\.BASE_LR \(now 1e\+30\)"):
        finetune(replace(job, output=tmp_path, overrides=[*SMALL, "SOLVER.BASE_LR", "1e30"]))
    assert not (tmp_path / "results.json").exists()


def test_what_can_be_known_before_is_said_before(job: Job, tmp_path: Path) -> None:
    mine = replace(job, output=tmp_path / "run")
    c4 = save(convert(randomised("resnet18"), "detectron2", head="c4"), tmp_path / "c4.pth")
    with pytest.raises(UserError, match=r"an FPN detector, but .* converted with --head c4; .*--head fpn"):
        finetune(replace(mine, weights=c4))
    with pytest.raises(UserError, match="voc_2007_trainval: .* is not there"):
        finetune(replace(mine, data_root=tmp_path))
    with pytest.raises(UserError, match="no checkpoint to evaluate"):
        finetune(replace(mine, eval_only=True))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--num-gpus 2: torch sees no GPU"):
            finetune(replace(mine, num_gpus=2))
    assert not (tmp_path / "run").exists()


def test_only_the_backbone_is_loaded(job: Job) -> None:
    plan = room.prepare(job)
    cfg, converted = plan.cfg, plan.converted
    assert converted is not None
    torch.manual_seed(0)
    model = build_model(cfg)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert load_exact(model, converted.state_dict, "detectron2") == 120
    for name, tensor in model.state_dict().items():
        if name.startswith("backbone.bottom_up."):
            assert torch.equal(tensor, converted.state_dict[name])
        else:
            assert torch.equal(tensor, before[name])
    with pytest.raises(UserError, match=r"--head c4, but the config builds a fpn detector"):
        load_exact(model, convert(randomised("resnet18"), "detectron2", head="c4").state_dict, "detectron2")
    with pytest.raises(UserError, match="has no place|builds another architecture"):
        load_exact(model, convert(randomised("resnet34"), "detectron2", head="fpn").state_dict, "detectron2")
