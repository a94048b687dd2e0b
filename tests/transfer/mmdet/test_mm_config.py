"""A configuration as it is read: options, what is refused, the data root, and the settings that a run records."""

from pathlib import Path

import pytest

import transfer.mmdet.finetune  # noqa: F401  (registers MMDetection's modules and ours)
from pretrain.console import UserError
from transfer.finetuning.settings import settings_of
from transfer.mmdet.config import load_config, set_data_root
from transfer.mmdet.parts import effective

CONFIGS = Path(__file__).parents[3] / "configs"
C4 = CONFIGS / "mmdet" / "faster-rcnn_r50-c4_voc0712.py"
FPN = CONFIGS / "mmdet" / "faster-rcnn_r50-fpn_1x_coco.py"
QUICK = CONFIGS / "quickstart" / "coco_r18_fpn.py"


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("optim_wrapper.optimizer.lrr=1", "unknown key 'lrr'; did you mean 'lr'"),
        ("model.backbone.dept=18", "unknown key 'dept'; did you mean 'depth'"),
        ("trian_cfg.max_iters=3", "unknown key 'trian_cfg'; did you mean 'train_cfg'"),
        ("train_dataloader.batchsize=1", "did you mean 'batch_size'"),
        ("param_scheduler.7.end=1", "param_scheduler is a list of 2"),
        ("model.backbone.depth.x=1", "model.backbone.depth is no group of keys"),
        ("train_pipeline.2.scales=1", "'train_pipeline' is a name inside the file"),
        ("model.backbone.depth", "write key=value"),
        ("data_preprocessor=1", "data_preprocessor at the top level"),
        ("model=None", "no entry 'model'"),
        ("model.backbone.norm_cfg={'type':'BN'}", "it is a group of keys; set one of them, e.g. model.backbone.norm_"),
    ],
)
def test_a_misspelt_option_is_refused(option, told):
    with pytest.raises(UserError, match=told):
        load_config(QUICK, options=[option])


def test_options_apply_also_where_only_the_constructor_knows_the_key():
    cfg = load_config(
        QUICK, options=["model.backbone.with_cp=True", "train_dataloader.pin_memory=True", "train_cfg.max_iters=7"]
    )
    assert (cfg.model.backbone.with_cp, cfg.train_dataloader.pin_memory, cfg.train_cfg.max_iters) == (True, True, 7)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data_preprocessor = dict(type='DetDataPreprocessor')\n", "at the top level, where the Runner passes over it"),
        ("optim_wraper = dict()\n", "unknown entry 'optim_wraper'; did you mean 'optim_wrapper'"),
        ("x = (\n", "not a configuration"),
    ],
)
def test_what_the_runner_would_ignore_is_refused(tmp_path, text, told):
    path = tmp_path / "config.py"
    path.write_text(f"_base_ = [{str(QUICK)!r}]\n{text}")
    with pytest.raises(UserError, match=told):
        load_config(path)


def test_a_missing_config_and_one_without_a_model_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such configuration"):
        load_config(tmp_path / "nowhere.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="no entry 'model'"):
        load_config(tmp_path / "empty.py")


@pytest.mark.parametrize("path", [C4, FPN, QUICK])
def test_data_root_reaches_every_file(path, tmp_path):
    cfg = load_config(path)
    set_data_root(cfg, tmp_path)
    train = cfg.train_dataloader.dataset
    parts = [*train.get("datasets", [train]), cfg.val_dataloader.dataset]
    assert {part.data_root for part in parts} == {f"{tmp_path}/"}
    if path != C4:
        assert cfg.val_evaluator.ann_file == f"{tmp_path}/coco/annotations/instances_val2017.json"


def test_settings_hold_what_decides_the_outcome():
    settings = settings_of(load_config(C4), 16)
    assert settings["batch"] == 16
    assert "train_dataloader.batch_size" not in settings  # a step's images count, however they are shared out
    assert settings["optim_wrapper.optimizer.lr"] == 0.02
    assert settings["param_scheduler.1.milestones"] == [18000, 22000]
    assert settings["train_dataloader.dataset.datasets.1.ann_file"] == "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt"
    other = settings_of(load_config(C4, options=["model.train_cfg.rcnn.sampler.num=256"]), 16)
    assert {key for key in other if other[key] != settings[key]} == {"model.train_cfg.rcnn.sampler.num"}


@pytest.mark.parametrize("path", [C4, FPN])
def test_settings_are_the_same_wherever_the_data_lie(path, tmp_path):
    here, there = load_config(path), load_config(path)
    set_data_root(there, tmp_path)
    assert settings_of(there, 16) == settings_of(here, 16)
    assert not any("data_root" in key for key in settings_of(here, 16))


def test_a_silent_part_has_the_default_of_its_own_class():
    """mmdet's ResLayer keeps its norms in evaluation mode, its child here does not; a ResNeXt has a ResNet's style."""
    assert effective({"type": "ResLayer", "depth": 50}, "norm_eval") is True
    assert effective({"type": "ResLayerExtraNorm", "depth": 50}, "norm_eval") is False
    assert effective({"type": "ResNeXt"}, "style") == "pytorch"
    assert effective({"type": "ResNeXt", "style": "caffe"}, "style") == "caffe"
    assert effective({"type": "ResNet"}, "norm_cfg.type") == "BN"
    assert effective({"type": "ResNet"}, "depth") is None
