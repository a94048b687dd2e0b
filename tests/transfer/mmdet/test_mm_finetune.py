"""A few real iterations on a tiny data root: training, evaluation, a kill and a resume, and every refusal."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer
from PIL import Image

from pretrain.console import UserError
from transfer.layouts import read_source
from transfer.mmdet.finetune import Job, check_only, finetune, newest_checkpoint
from transfer.mmdet.hooks import Watch
from transfer.mmdet.runner import FinetuneRunner

ROOT = Path(__file__).parents[3]
SMALL = (
    "train_cfg.max_iters=6",
    "train_dataloader.batch_size=2",
    "default_hooks.checkpoint.interval=2",
    "param_scheduler.1.milestones=[4]",
)
SMALL_C4 = (
    "auto_scale_lr.base_batch_size=2",
    "model.backbone.depth=18",
    "model.backbone.norm_cfg.type=BN",
    "model.rpn_head.in_channels=256",
    "model.rpn_head.feat_channels=64",
    "model.roi_head.shared_head.depth=18",
    "model.roi_head.bbox_roi_extractor.out_channels=256",
    "model.roi_head.bbox_head.in_channels=512",
    "model.train_cfg.rcnn.sampler.num=8",
    "model.train_cfg.rpn_proposal.max_per_img=50",
    "model.test_cfg.rpn.max_per_img=20",
    "train_cfg.max_iters=2",
    "train_dataloader.num_workers=1",
    "val_dataloader.num_workers=1",
    "train_dataloader.dataset.datasets.0.pipeline.2.scales=[(160,96)]",
    "train_dataloader.dataset.datasets.1.pipeline.2.scales=[(160,96)]",
    "val_dataloader.dataset.pipeline.1.scale=(160,96)",
)


@pytest.fixture
def job(data_root, converted_weights, tmp_path):
    return Job(
        config=ROOT / "configs" / "quickstart" / "coco_r18_fpn.py",
        weights=converted_weights("resnet18", "fpn"),
        data_root=data_root,
        work_dir=tmp_path / "run",
        options=SMALL,
    )


def interrupt_at(monkeypatch, iteration):
    """Let Ctrl-C come in the given iteration, counted from 1."""
    original = Watch.after_train_iter

    def interrupted(self, runner, *args, **kwargs):
        original(self, runner, *args, **kwargs)
        if runner.iter + 1 == iteration:
            raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "after_train_iter", interrupted)


def weights_of(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_train_evaluate_draw_and_resume_bit_for_bit(job, tmp_path, monkeypatch, capfd):
    results = finetune(replace(job, draw=3))
    run = job.work_dir
    assert results == json.loads((run / "results.json").read_text())
    assert {"what", "framework", "AP", "AP50", "AP75", "per_class", "iterations", "seconds", "seed", "config"} <= {
        *results
    }
    assert (results["framework"], results["iterations"], results["config"]) == ("MMDetection 3.3.0", 6, "coco_r18_fpn")
    assert (results["batch"], results["world_size"], results["changed_on_resume"]) == (2, 1, [])
    assert results["settings"]["train_cfg.max_iters"] == 6
    assert 0 <= results["AP"] <= results["AP50"] <= 100
    assert results["per_class"]["dog"] is None  # no dog in the data
    drawn = sorted((run / "detections").iterdir())
    assert [path.stem for path in drawn] == ["000008", "000009", "000010"]
    assert min(Image.open(drawn[0]).size) >= 400
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert lines[0]["total_loss"] > 0
    assert results["loss_curve"] == [[n, round(line["total_loss"], 4)] for n, line in enumerate(lines)]
    told = capfd.readouterr()
    assert told.out == ""  # what the frameworks print is in the log
    assert all(line.startswith(("fine-tuning in MMDetection: ", "evaluating: ")) for line in told.err.splitlines())

    # The weights went in: after six small steps the stem is near the start, a random one would not be.
    start = torch.load(job.weights, weights_only=True)["backbone.conv1.weight"]
    final = weights_of(run / "iter_6.pth")
    assert (final["backbone.conv1.weight"] - start).norm() < 0.1 * start.norm()

    # The way back reads the run's own checkpoint, with the preprocessing that it was trained with.
    back = read_source(run / "iter_6.pth")
    assert (back.card.arch, back.card.std, back.preprocessing_known) == ("resnet18", (0.229, 0.224, 0.225), True)
    assert torch.equal(back.weights["conv1.weight"], final["backbone.conv1.weight"])

    # Ctrl-C in iteration 5, the same command again: the same weights as without it.
    cut = replace(job, work_dir=tmp_path / "cut")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            finetune(cut)
    newest = newest_checkpoint(cut.work_dir)
    assert newest.name == "iter_4.pth"
    kept = torch.load(newest, weights_only=True)
    kept["meta"]["seconds"] = 1000.0  # a long first sitting
    torch.save(kept, newest)
    again = finetune(cut)
    assert 1000 < again["seconds"] < 1100
    resumed = weights_of(cut.work_dir / "iter_6.pth")
    assert all(torch.equal(resumed[name], final[name]) for name in final)
    assert (again["iterations"], again["AP"], again["loss_curve"]) == (6, results["AP"], results["loss_curve"])

    # Finished: the same command returns at once; --eval-only measures the same again.
    monkeypatch.setattr(FinetuneRunner, "train", lambda self: pytest.fail("trained again"))
    assert finetune(job) == results
    assert finetune(replace(job, draw=4))["AP"] == results["AP"]
    assert len(list((run / "detections").iterdir())) == 4
    assert finetune(replace(job, eval_only=True))["AP"] == results["AP"]
    other = finetune(replace(job, eval_only=True, checkpoint=cut.work_dir / "iter_4.pth"))
    assert (other["iterations"], other["loss_curve"]) == (4, [])
    assert json.loads((run / "results-iter_4.json").read_text()) == other
    assert json.loads((run / "results.json").read_text())["iterations"] == 6
    assert not list(run.glob(".*"))

    with pytest.raises(UserError, match=r"holds a run of another seed \(0, now 1\); choose an --work-dir"):
        finetune(replace(job, seed=1))
    slower = replace(job, options=(*SMALL, "optim_wrapper.optimizer.lr=0.01"))
    told = r"holds a run with another optim_wrapper\.optimizer\.lr \(0\.0005, now 0\.01\); .* by --resume"
    with pytest.raises(UserError, match=told):
        finetune(slower)


@pytest.mark.slow
def test_c4_on_voc_with_the_extra_norm(data_root, converted_weights, tmp_path):
    job = Job(
        config=ROOT / "configs" / "mmdet" / "faster-rcnn_r50-c4_voc0712.py",
        weights=converted_weights("resnet18", "c4"),
        data_root=data_root,
        work_dir=tmp_path / "run",
        options=SMALL_C4,
        draw=3,
    )
    results = finetune(job)
    assert [path.stem for path in sorted((job.work_dir / "detections").iterdir())] == ["000008", "000009", "000010"]
    assert results["iterations"] == 2
    assert set(results["per_class"]) >= {"aeroplane", "tvmonitor"}
    final = weights_of(job.work_dir / "iter_2.pth")
    assert {"roi_head.shared_head.layer4.0.conv1.weight", "roi_head.shared_head.norm.running_var"} <= set(final)
    start = torch.load(job.weights, weights_only=True)
    changed = [name for name, value in start.items() if "running" in name and not torch.equal(final[name], value)]
    assert len(changed) == sum("running" in name for name in start)  # every norm was in training mode


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(job, monkeypatch):
    def poisoned(self, runner, batch_idx, data_batch=None, outputs=None, original=Watch.after_train_iter):
        if runner.iter == 2:
            outputs = {**outputs, "loss_rpn_bbox": torch.tensor(float("nan"))}
        original(self, runner, batch_idx, data_batch, outputs)

    monkeypatch.setattr(Watch, "after_train_iter", poisoned)
    told = r"run: the loss became infinite or NaN at iteration 2 \(loss_rpn_bbox = nan\); lower optim_wrapper"
    with pytest.raises(UserError, match=told):
        finetune(replace(job, weights=None))
    assert newest_checkpoint(job.work_dir).name == "iter_2.pth"
    assert not (job.work_dir / "results.json").exists()


def test_nothing_is_written_when_something_is_missing(job, tmp_path):
    with pytest.raises(UserError, match="instances_train2017.json is not there"):
        finetune(replace(job, data_root=tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no such converted file"):
        finetune(replace(job, weights=tmp_path / "OUT.pth"))
    with pytest.raises(UserError, match="no checkpoint to evaluate; train first"):
        finetune(replace(job, eval_only=True))
    assert not job.work_dir.exists()


def test_a_c4_conversion_is_refused_by_an_fpn_detector(job, converted_weights):
    with pytest.raises(UserError, match="converted with --head c4"):
        finetune(replace(job, weights=converted_weights("resnet18", "c4")))


def test_class_names_that_the_data_do_not_have_are_refused(job):
    names = [f"class{number}" for number in range(20)]
    options = tuple(f"{part}_dataloader.dataset.metainfo.classes={names}" for part in ("train", "val"))
    with pytest.raises(UserError, match=r"instances_train2017\.json: no category 'class0' \(20 of the 20"):
        finetune(replace(job, options=(*SMALL, *(option.replace(" ", "") for option in options))))


def test_number_of_classes_must_be_the_box_heads(job):
    with pytest.raises(UserError, match=r"20 classes, model\.roi_head\.bbox_head\.num_classes is 21"):
        finetune(replace(job, options=(*SMALL, "model.roi_head.bbox_head.num_classes=21")))


def test_check_needs_no_data_and_writes_nothing(job, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_only(replace(job, data_root=tmp_path / "nowhere", work_dir=None, options=(), scale_to=4))
    told = capsys.readouterr().out
    for line in ("model.backbone.style", "model.data_preprocessor.std", "linear scaling", "optim_wrapper.optimizer.lr"):
        assert line in told
    assert "WRONG" not in told
    with pytest.raises(UserError, match=r"model\.backbone\.style is caffe"):
        check_only(replace(job, options=("model.backbone.style=caffe",)))
    assert not any(path.name == "work_dirs" for path in tmp_path.iterdir())


def test_a_checkpoint_of_something_else_is_refused(job, tmp_path):
    file = tmp_path / "other.pth"
    torch.save({"weights": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"other\.pth: not a checkpoint of this tool's runs"):
        finetune(replace(job, eval_only=True, checkpoint=file))
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": {"iter": 3}}, file)
    with pytest.raises(UserError, match=r"other\.pth: another detector than the config builds; \d+ tensors differ"):
        finetune(replace(job, eval_only=True, checkpoint=file))
    torch.save({"state_dict": {}, "meta": {"iter": 3}, "message_hub": HistoryBuffer()}, file)  # as mmengine saves
    with pytest.raises(UserError, match=r"other\.pth: not a checkpoint .* \(Weights only load failed"):
        finetune(replace(job, eval_only=True, checkpoint=file))
    with pytest.raises(UserError, match="--checkpoint goes with --eval-only"):
        finetune(replace(job, checkpoint=file))


@pytest.mark.slow
def test_command_line(job):
    tool = str(ROOT / "tools" / "finetune_mmdet.py")
    command = [sys.executable, tool, str(job.config), "--weights", str(job.weights), "--data-root", str(job.data_root)]
    command += ["--work-dir", str(job.work_dir), "--cfg-options", *SMALL, "optim_wrapper.optimizer.lrr=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")  # importing MMDetection prints nothing either
    assert done.stderr == "error: --cfg-options optim_wrapper.optimizer.lrr: unknown key 'lrr'; did you mean 'lr'?\n"
