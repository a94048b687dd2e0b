"""Converted weights in MMDetection's own hands: OUT.py as a config, and OUT.pth in the configs that it ships."""

import logging
from dataclasses import replace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from networks import randomised
from torch import nn

from pretrain.console import UserError
from transfer.architectures import SWIN
from transfer.convert import convert
from transfer.files import save

FPN = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
C4 = "mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py"


@pytest.fixture(autouse=True)
def quiet():
    """mmengine logs where every parameter came from."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def build(cfg):
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model)


def shipped(base, folder):
    """Return one of MMDetection's own configs, without what it would fetch from the net."""
    (folder / "shipped.py").write_text(f'_base_ = "{base}"\n')
    cfg = Config.fromfile(folder / "shipped.py")
    for part in (cfg.model.backbone, cfg.model.roi_head.get("shared_head") or {}):
        part["init_cfg"] = None
    return cfg


def assert_loaded(model, weights):
    own = model.state_dict()
    assert [name for name, tensor in weights.items() if not torch.equal(own[name], tensor)] == []


def converted_with(arch, head, **card):
    """Return converted random weights whose card has been changed."""
    converted = convert(randomised(arch), "mmdet", head=head)
    return replace(converted, card=replace(converted.card, **card))


@pytest.mark.parametrize(
    ("arch", "head", "channels"),
    [
        ("resnet18", "c4", (256, 512)),
        ("resnext50_32x4d", "c4", (1024, 2048)),
        ("slim_resnet18", "c4", (128, 256)),
        ("slim_resnet18", "fpn", (32, 64, 128, 256)),
        ("resnet34", "fpn", (64, 128, 256, 512)),
        ("resnext50_32x4d", "fpn", (256, 512, 1024, 2048)),
        (SWIN, "fpn", (96, 192, 384, 768)),
    ],
)
def test_config_beside_the_weights_builds_what_they_need(arch, head, channels, tmp_path, monkeypatch):
    """As the _base_ of a config of one's own, in a folder and under a name that have a blank and a full stop."""
    folder = tmp_path / "my weights"
    folder.mkdir()
    converted = converted_with(arch, head, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    path = save(converted, folder / "v1.0 best.pth")
    own = folder / "own.py"
    own.write_text('_base_ = "v1.0 best.py"\ntrain_dataloader = dict(batch_size=7)\n')
    monkeypatch.chdir(tmp_path)  # the weights are found from anywhere
    cfg = Config.fromfile("my weights/own.py")
    assert (cfg.train_dataloader.batch_size, cfg.train_dataloader.dataset.type) == (7, "CocoDataset")

    model = build(cfg)
    model.init_weights()
    model.train()
    assert_loaded(model, torch.load(path, weights_only=True))
    red = torch.zeros(3, 32, 32, dtype=torch.uint8)
    red[2] = 255  # as OpenCV reads it: BGR
    ready = model.data_preprocessor({"inputs": [red], "data_samples": None})["inputs"][0]
    assert ready[:, 0, 0].tolist() == pytest.approx([(255 - 127.5) / 51, -102 / 76.5, -76.5 / 63.75])

    parts = [model.backbone] + ([model.roi_head.shared_head] if head == "c4" else [])
    assert all(parameter.requires_grad for part in parts for parameter in part.parameters())
    norms = [layer for part in parts for layer in part.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(layer, nn.SyncBatchNorm) and layer.training for layer in norms)
    assert bool(norms) == (arch != SWIN)
    if head == "c4":
        assert (model.rpn_head.in_channels, model.roi_head.shared_head.norm.num_features) == channels
        assert model.roi_head.bbox_roi_extractor.out_channels == channels[0]
        with torch.no_grad():  # every part takes what the one before it gives
            model.eval()
            assert len(model.forward(torch.zeros(1, 3, 64, 64), _samples(64), mode="predict")) == 1
    else:
        assert tuple(model.neck.in_channels) == channels
        with torch.no_grad():
            assert [level.shape[-1] for level in model.extract_feat(torch.zeros(1, 3, 64, 64))] == [16, 8, 4, 2, 1]
    if arch.startswith("resnext"):
        first = model.backbone.layer2[0]
        assert (first.conv1.stride, first.conv2.stride, first.conv2.groups) == ((1, 1), (2, 2), 32)


def _samples(side):
    from mmdet.structures import DetDataSample

    shapes = {
        "img_shape": (side, side),
        "ori_shape": (side, side),
        "scale_factor": (1.0, 1.0),
        "pad_shape": (side, side),
    }
    return [DetDataSample(metainfo=shapes)]


def test_stride_style_and_channel_order_are_the_cards(tmp_path):
    path = save(converted_with("resnet50", "c4", stride_style="caffe", channel_order="BGR"), tmp_path / "out.pth")
    model = build(Config.fromfile(path.with_suffix(".py")))
    for stage in (model.backbone.layer2, model.roi_head.shared_head.layer4):
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == ((2, 2), (1, 1))
    blue = torch.zeros(3, 32, 32, dtype=torch.uint8)
    blue[0] = 255
    ready = model.data_preprocessor({"inputs": [blue], "data_samples": None})["inputs"][0]
    assert ready[0].max() > 0 > ready[2].max()


@pytest.mark.parametrize(("base", "head"), [(FPN, "fpn"), (C4, "c4")])
def test_shipped_config_takes_the_weights_by_load_from(base, head, tmp_path):
    converted = convert(randomised("resnet50"), "mmdet", head=head)
    path = save(converted, tmp_path / "out.pth")
    model = shipped(base, tmp_path).model
    runner = Runner(
        model, str(tmp_path / "run"), load_from=str(path), default_scope="mmdet", experiment_name=tmp_path.name
    )
    runner.load_or_resume()
    assert_loaded(runner.model, converted.state_dict)


@pytest.mark.parametrize(("base", "head"), [(FPN, "fpn"), (C4, "c4")])
def test_shipped_config_takes_the_weights_by_init_cfg(base, head, tmp_path):
    converted = convert(randomised("resnet50"), "mmdet", head=head)
    start = {"type": "Pretrained", "checkpoint": str(save(converted, tmp_path / "out.pth"))}
    cfg = shipped(base, tmp_path)
    cfg.model.backbone.init_cfg = {**start, "prefix": "backbone."}
    if head == "c4":
        cfg.model.roi_head.shared_head.init_cfg = {**start, "prefix": "roi_head.shared_head."}
    model = build(cfg)
    model.init_weights()
    assert_loaded(model, converted.state_dict)
    # Why the prefix matters: without it MMDetection only logs that nothing fitted.
    cfg.model.backbone.init_cfg = start
    model = build(cfg)
    model.init_weights()
    assert not torch.equal(model.backbone.conv1.weight, converted.state_dict["backbone.conv1.weight"])


def test_config_is_written_only_for_files_that_mmengine_reads(tmp_path):
    converted = convert(randomised("resnet18"), "mmdet", head="fpn")
    for suffix in (".safetensors", ".pkl"):
        save(converted, tmp_path / f"out{suffix}")
        assert not (tmp_path / "out.py").exists()
    (tmp_path / "train.py").write_text("print('mine')\n")
    with pytest.raises(UserError, match=r"train\.py: the converter would replace it.*choose another name"):
        save(converted, tmp_path / "train.pth")
    assert (tmp_path / "train.py").read_text() == "print('mine')\n"
    assert not (tmp_path / "train.pth").exists()
    assert save(converted, save(converted, tmp_path / "out.pth")).is_file()  # its own it replaces
