"""What contradicts the weights or the protocol is refused, all at once; what the command line asks for is told."""

from pathlib import Path

import pytest

import transfer.mmdet.finetune  # noqa: F401  (registers MMDetection's modules and ours)
from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.finetuning import check
from transfer.finetuning.scaling import scaling_problems
from transfer.mmdet.config import load_config, read_config
from transfer.mmdet.job import Job, make_plan
from transfer.mmdet.launch import Ranks
from transfer.mmdet.scale import batch_problems, scale_to, scaled_keys, warnings_of

CONFIGS = Path(__file__).parents[3] / "configs"
C4 = CONFIGS / "mmdet" / "faster-rcnn_r50-c4_voc0712.py"
FPN = CONFIGS / "mmdet" / "faster-rcnn_r50-fpn_1x_coco.py"
QUICK = CONFIGS / "quickstart" / "coco_r18_fpn.py"
STUDY = CONFIGS / "study" / "detection.py"
IMAGENET = BackboneCard(arch="resnet50", classes=())
SHARED_HEAD = "model.roi_head.shared_head"


def own_file(tmp_path, text, base=FPN):
    """Return a config of one's own: no command line, so nothing is a wish."""
    path = tmp_path / "own.py"
    path.write_text(f"_base_ = [{str(base)!r}]\n{text}\n")
    return path


def test_card_decides_the_preprocessing():
    card = BackboneCard(arch="resnet50", classes=(), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    prepare = load_config(FPN, card).model.data_preprocessor
    assert prepare.mean == pytest.approx([127.5, 102, 76.5])
    assert prepare.std == pytest.approx([51, 76.5, 63.75])


@pytest.mark.parametrize("path", [C4, FPN])
def test_the_recipes_fit(path):
    reading = read_config(path, IMAGENET)
    assert reading.problems == []
    assert check.departures(reading.findings) == []


def test_channels_of_the_weights_are_compared(tmp_path):
    """A slim ResNet's in the detector of a whole one, and the other way round."""
    r18, slim = BackboneCard(arch="resnet18", classes=()), BackboneCard(arch="slim_resnet18", classes=())
    assert read_config(STUDY, slim).problems == []
    [problem] = read_config(QUICK, slim).problems
    assert "model.backbone.base_channels is 64, but the weights (slim_resnet18, no method) have 32" in problem
    [problem] = read_config(STUDY, r18).problems
    assert "model.backbone.base_channels is 32, but the weights (resnet18, no method) have 64" in problem
    [problem] = read_config(own_file(tmp_path, "model=dict(backbone=dict(stem_channels=None))", STUDY), slim).problems
    assert "model.backbone.stem_channels is 32, but the weights (slim_resnet18, no method) have 64" in problem
    c4 = "model=dict(backbone=dict(depth=18, base_channels=32, stem_channels=64), roi_head=dict(shared_head=dict({})))"
    [problem] = read_config(own_file(tmp_path, c4.format("depth=18"), C4), slim).problems
    assert f"{SHARED_HEAD}.base_channels is 64, but the weights (slim_resnet18, no method) have 32" in problem
    assert read_config(own_file(tmp_path, c4.format("depth=18, base_channels=32"), C4), slim).problems == []
    plain = read_config(C4, IMAGENET, [f"{SHARED_HEAD}.type=ResLayer"])  # MMDetection's own, which has 64
    assert not any("channels" in problem for problem in plain.problems)


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("data_preprocessor=dict(bgr_to_rgb=False)", "data_preprocessor.bgr_to_rgb", "BGR pictures reach"),
        ("data_preprocessor=dict(rgb_to_bgr=True)", "data_preprocessor.bgr_to_rgb", "BGR pictures reach"),
        ("data_preprocessor=dict(std=[1.0, 1, 1])", "data_preprocessor.std", "std 1 belongs to Caffe's weights"),
        ("data_preprocessor=dict(mean=[103.53, 116.28, 123.675])", "data_preprocessor.mean", "leave it to the card"),
        ("backbone=dict(style='caffe')", "backbone.style", r"have pytorch \(where the stride sits\)"),
        ("backbone=dict(depth=18)", "backbone.depth", r"the weights \(resnet50, no method\) have 50"),
        ("backbone=dict(type='ResNeXt', groups=32, base_width=4)", "backbone.type", "have ResNet"),
        ("backbone=dict(frozen_stages=1)", "backbone.frozen_stages", "the protocol trains every layer; set -1"),
        ("backbone=dict(norm_eval=True)", "backbone.norm_eval", "trains every norm on its batch; set False"),
        ("backbone=dict(norm_cfg=dict(requires_grad=False))", "backbone.norm_cfg.requires_grad", "trains every norm"),
        ("backbone=dict(norm_cfg=dict(type='GN'))", "backbone.norm_cfg.type", "running statistics would be lost"),
        ("neck=dict(norm_cfg=None)", "neck.norm_cfg.type", "the protocol has SyncBN there"),
        ("backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='x'))", "backbone.init_cfg", "by --weights"),
    ],
)
def test_a_contradiction_in_a_file_is_refused(tmp_path, text, key, told):
    with pytest.raises(UserError, match=rf"own\.py: model\.{key} is .*{told}"):
        load_config(own_file(tmp_path, f"model = dict({text})"), IMAGENET)


def test_norm_eval_counts_also_where_the_file_is_silent(tmp_path):
    """mmdet's ResNet keeps its norms in evaluation mode unless it is told not to."""
    text = "model = dict(backbone=dict(_delete_=True, type='ResNet', depth=50, norm_cfg=dict(type='SyncBN')))"
    with pytest.raises(UserError, match=r"model\.backbone\.norm_eval is True"):
        load_config(own_file(tmp_path, text), IMAGENET)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("style='caffe'", r"shared_head\.style is caffe"),
        ("norm_eval=True", r"shared_head\.norm_eval is True"),
        ("depth=101", r"shared_head\.depth is 101"),
        ("type='ResLayer'", r"shared_head\.type is ResLayer, but the protocol has a norm after stage 4"),
    ],
)
def test_the_shared_head_must_fit_too(tmp_path, text, told):
    with pytest.raises(UserError, match=told):
        load_config(own_file(tmp_path, f"model = dict(roi_head=dict(shared_head=dict({text})))", C4), IMAGENET)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "train_cfg = dict(type='IterBasedTrainLoop')",
            "train_cfg.type is IterBasedTrainLoop, which cannot be resumed",
        ),
        ("train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=12)", "train_cfg.type is EpochBased"),
        (
            "train_cfg = dict(_delete_=True, type='ResumableLoop')",
            "train_cfg.type is ResumableLoop, which .* max_iters",
        ),
        ("train_dataloader = dict(sampler=dict(type='DefaultSampler'))", "train_dataloader.sampler is DefaultSampler"),
        ("param_scheduler = [dict(type='MultiStepLR', milestones=[8])]", "param_scheduler.0.by_epoch is True, so it"),
        ("auto_scale_lr = dict(enable=True)", "auto_scale_lr.enable is True, by which mmengine scales the rate"),
        ("auto_scale_lr = None", "auto_scale_lr.base_batch_size is None, but for how many images a step"),
        ("model = dict(init_cfg=dict(type='Pretrained', checkpoint='x'))", "model.init_cfg is .* by --weights"),
        (
            "model = dict(backbone=dict(pretrained='x'))",
            "model.backbone.pretrained is x, but weights come by --weights",
        ),
        ("load_from = 'x.pth'", "load_from is x.pth, but weights come by --weights"),
    ],
)
def test_what_would_train_something_else_is_refused(tmp_path, text, told):
    with pytest.raises(UserError, match=told):
        load_config(own_file(tmp_path, text), IMAGENET)


def test_the_command_line_may_depart_from_the_protocol():
    assert read_config(FPN, IMAGENET, ["model.neck.norm_cfg=None"]).problems == []
    options = ["model.backbone.frozen_stages=1", "model.backbone.norm_cfg.requires_grad=False"]
    reading = read_config(FPN, IMAGENET, options)
    assert reading.problems == []
    assert check.departures(reading.findings) == [
        "model.backbone.norm_cfg.requires_grad is False: the protocol trains every norm (True)",
        "model.backbone.frozen_stages is 1: the protocol trains every layer (-1)",
    ]
    with pytest.raises(UserError, match="2 settings cannot be trained(.|\n)*from scratch freezes what no one trained"):
        load_config(FPN, None, options)


def test_the_other_head_is_refused_with_the_remedy():
    reading = read_config(FPN, IMAGENET, head="c4", source="r50.pth")
    assert reading.problems == [
        f"{FPN}: model.roi_head.shared_head is none, an FPN detector, but the weights were converted with --head c4; "
        "python tools/convert_to_mmdet.py r50.pth OUT.pth --head fpn"
    ]


def test_another_architecture_is_refused():
    swin = BackboneCard(arch="swin_tiny_patch4_window7_224", classes=())
    with pytest.raises(
        UserError, match=r"model\.backbone\.type is ResNet, but the weights \(swin.*have SwinTransformer"
    ):
        load_config(FPN, swin)
    swin_file = CONFIGS / "mmdet" / "faster-rcnn_swin-t-fpn_1x_coco.py"
    assert read_config(swin_file, swin).problems == []
    with pytest.raises(UserError, match=r"model\.backbone\.window_size is 12, but the weights .* have 7"):
        load_config(swin_file, swin, ["model.backbone.window_size=12"])
    with pytest.raises(UserError, match=r"model\.backbone\.depths is .*18.*, but the weights .* have \(2, 2, 6, 2\)"):
        load_config(swin_file, swin, ["model.backbone.depths=[2,2,18,2]"])
    with pytest.raises(UserError, match=r"model\.backbone\.groups is None, but the weights \(resnext50.* have 32"):
        load_config(FPN, BackboneCard(arch="resnext50_32x4d", classes=()))


def test_the_protocol_on_one_gpu():
    """2 images a step instead of 16: an eighth of the rate, eight times the iterations."""
    cfg = load_config(C4)
    changes = {change.key: (change.before, change.after) for change in scale_to(cfg, 2, 1)}
    assert changes["optim_wrapper.optimizer.lr"] == (0.02, 0.0025)
    assert changes["param_scheduler.1.milestones"] == ([18000, 22000], [144000, 176000])
    assert changes["param_scheduler.0.end"] == (101, 801)  # a warm-up of 800: mmengine counts its first step
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval, cfg.param_scheduler[1].end) == (192000,) * 3
    assert cfg.train_dataloader.batch_size == 2
    assert batch_problems(cfg, 1, True, 2) == []


def test_scaling_shares_the_images_out():
    cfg = load_config(C4)
    scale_to(cfg, 8, 4)
    assert (cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.lr) == (2, 0.01)
    assert scale_to(load_config(C4), 16, 8) == []
    assert batch_problems(load_config(C4), 8, True, None) == []
    assert batch_problems(cfg, 3, True, 8)[0] == "--scale-to 8 cannot be divided among 3 processes"


def test_contradictions_are_named():
    given = {"optim_wrapper.optimizer.lr": "command line", "train_cfg.max_iters": "command line"}
    lines = scaling_problems(2, scaled_keys(load_config(C4)), given)
    assert [line.split()[2] for line in lines] == ["optim_wrapper.optimizer.lr", "train_cfg.max_iters"]


def test_a_step_of_other_images_than_the_rate_is_for_is_refused():
    """The usual slip: a configuration for 8 GPUs started on 4, at twice the rate that it should have."""
    assert batch_problems(load_config(C4), 4, True, None) == [
        "train_dataloader.batch_size is 2, which on 4 processes makes 8 images a step, and the rate is for 16 "
        "(auto_scale_lr.base_batch_size); set train_dataloader.batch_size=4 by --cfg-options, or --scale-to 8, which "
        "scales rate and schedule"
    ]


def test_nothing_is_scaled_where_the_rates_images_are_not_known(tmp_path):
    plan = make_plan(Job(own_file(tmp_path, "auto_scale_lr = None"), scale_to=2), Ranks())
    assert plan.changes == []
    assert ["base_batch_size is None" in line for line in plan.problems] == [True]


def test_several_processes_without_gpus_cannot_share_norms():
    lines = batch_problems(load_config(C4), 8, False, None)
    keys = ["model.backbone.norm_cfg.type", f"{SHARED_HEAD}.norm_cfg.type"]
    assert [line.split()[0] for line in lines] == keys
    assert "torch has for GPUs only" in lines[0]


def test_warnings_say_what_runs_otherwise_than_it_looks():
    cfg = load_config(QUICK, options=["train_cfg.max_iters=200"])
    lines = warnings_of(cfg, 2)
    assert [line.split()[0] for line in lines[:2]] == ["model.backbone.norm_cfg.type", "model.neck.norm_cfg.type"]
    assert "normalises by its own 2 of 4 images" in lines[0]
    assert lines[2] == (
        "param_scheduler.1.milestones: the rate never drops at 256; the run ends at 200 iterations "
        "(train_cfg.max_iters)"
    )
    assert warnings_of(load_config(C4), 8) == []
    [at_the_end] = warnings_of(load_config(QUICK, options=["train_cfg.max_iters=256"]), 1)
    assert "never drops at 256; the run ends at 256" in at_the_end
    assert (
        "batch statistics of so few are noise"
        in warnings_of(load_config(C4, options=["train_dataloader.batch_size=1"]), 16)[0]
    )
