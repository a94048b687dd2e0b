"""What mmengine's Runner really builds from every recipe of configs/mmdet and the small ones, read back.

MMDetection and mmengine take a wrong configuration without a word: each line here is something that was lost so once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import BaseLoop
from networks import randomised
from torch import nn

from transfer.architectures import RESNETS, SWIN
from transfer.convert import convert
from transfer.mmdet import finetune as room
from transfer.mmdet.config import read_config
from transfer.mmdet.job import Job, make_plan
from transfer.mmdet.launch import Ranks
from transfer.mmdet.runner import FinetuneRunner

CONFIGS = Path(__file__).parents[3] / "configs"
QUICK = CONFIGS / "quickstart" / "coco_r18_fpn.py"
STUDY = CONFIGS / "study" / "detection.py"
SMALL = {"quickstart": "resnet18", "study": "slim_resnet18"}
RECIPES = {path.stem: path for path in sorted((CONFIGS / "mmdet").glob("*.py"))} | {"quickstart": QUICK, "study": STUDY}
ARCHITECTURES = {
    "r18": "resnet18", "r34": "resnet34", "r50": "resnet50", "r101": "resnet101", "x50": "resnext50_32x4d", "swin": SWIN
}  # fmt: skip
PARAMETERS = {  # of the siblings in configs/d2, as Detectron2 builds them
    "faster-rcnn_r18-c4_voc0712": 11838704,
    "faster-rcnn_r34-c4_voc0712": 21946864,
    "faster-rcnn_r50-c4_voc0712": 33234160,
    "faster-rcnn_r101-c4_voc0712": 52226288,
    "faster-rcnn_x50-c4_voc0712": 32706032,
    "faster-rcnn_r50-c4_1x_coco": 33848860,
    "faster-rcnn_r50-c4_2x_coco": 33848860,
    "faster-rcnn_r18-fpn_1x_coco": 28686304,
    "faster-rcnn_r34-fpn_1x_coco": 38794464,
    "faster-rcnn_r50-fpn_1x_coco": 41755104,
    "faster-rcnn_r50-fpn_2x_coco": 41755104,
    "faster-rcnn_r101-fpn_1x_coco": 60747232,
    "faster-rcnn_x50-fpn_1x_coco": 41226976,
}
BATCH_NORM = nn.modules.batchnorm._BatchNorm


class Recorder(FinetuneRunner):
    """The tool's Runner, which remembers the norms that the configuration asked for.

    On one process mmengine replaces every SyncBatchNorm by a BatchNorm as soon as the detector is built.
    """

    def wrap_model(self, cfg: Any, model: nn.Module) -> nn.Module:
        self.norms_asked_for = {
            name: type(part) for name, part in model.named_modules() if isinstance(part, (BATCH_NORM, nn.LayerNorm))
        }
        return super().wrap_model(cfg, model)


def runner_of(name: str, folder: Path, *options: str) -> Recorder:
    """Return the Runner as tools/finetune_mmdet.py sets it up, before it reads any data."""
    plan = make_plan(Job(RECIPES[name], work_dir=folder, options=options), Ranks())
    assert plan.problems == []
    room._prepare(plan.cfg, Job(RECIPES[name]), plan, "none", None, resume=False)
    with room.quiet(folder / "framework.log"):
        return Recorder.from_cfg(plan.cfg)


@pytest.fixture(scope="module", params=RECIPES)
def built(request, tmp_path_factory) -> tuple[str, Recorder]:
    """Return the name of a recipe and its Runner, whose detector is in training mode."""
    runner = runner_of(request.param, tmp_path_factory.mktemp("run"))
    runner.model.train()
    return request.param, runner


def architecture(name: str) -> str:
    return SMALL[name] if name in SMALL else ARCHITECTURES[name.split("_")[1].split("-")[0]]


def trained_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return what the weights fill, and the pyramid."""
    parts: dict[str, Any] = {"backbone": model.backbone, "neck": getattr(model, "neck", None)}
    parts["roi_head.shared_head"] = getattr(model.roi_head, "shared_head", None)
    return {name: part for name, part in parts.items() if part is not None}


def test_every_kind_of_recipe_is_there():
    assert len(RECIPES) == 16
    assert {architecture(name) for name in RECIPES} == {*ARCHITECTURES.values(), *SMALL.values()}


def test_runs_of_one_process_write_each_into_its_own_folder(tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        runner_of("quickstart", folder)
        assert len(list(folder.glob("*/vis_data/config.py"))) == 1


def test_a_red_picture_is_red(built):
    """OpenCV reads blue, green, red; torchvision's weights take red first, in units of its deviations."""
    red = torch.zeros(3, 33, 47, dtype=torch.uint8)
    red[2] = 255
    prepare = built[1].model.data_preprocessor
    ready = prepare({"inputs": [red], "data_samples": None})["inputs"][0]
    wanted = [(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375]
    assert ready[:, 0, 0].tolist() == pytest.approx(wanted, abs=1e-5)
    assert ready[:, 32, 46].tolist() == pytest.approx(wanted, abs=1e-5)
    assert prepare.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert prepare.std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])
    assert tuple(ready.shape[1:]) == ((33, 47) if "-c4_" in built[0] else (64, 64))


def test_network_is_the_architectures(built):
    name, model = built[0], built[1].model
    arch = architecture(name)
    if arch == SWIN:
        assert [len(stage.blocks) for stage in model.backbone.stages] == [2, 2, 6, 2]
        assert not model.backbone.convert_weights
        rates = [block.ffn.dropout_layer.drop_prob for stage in model.backbone.stages for block in stage.blocks]
        assert rates == pytest.approx([0.2 * number / 11 for number in range(12)])
        return
    shape, blocks = RESNETS[arch], {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
    last = model.roi_head.shared_head.layer4 if "-c4_" in name else model.backbone.layer4
    stages = [model.backbone.layer1, model.backbone.layer2, model.backbone.layer3, last]
    assert [len(stage) for stage in stages] == list(blocks[shape.depth])
    for number, stage in enumerate(stages):
        first, stride = stage[0], 1 if number == 0 else 2
        if shape.bottleneck:  # the stride sits in the 3x3 convolution: "pytorch", not "caffe"
            assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (stride, stride))
            width = shape.width_per_group * shape.groups * 2**number if shape.groups > 1 else 64 * 2**number
            assert all((block.conv2.groups, block.conv2.out_channels) == (shape.groups, width) for block in stage)
        else:
            assert (first.conv1.stride, first.conv2.stride) == ((stride, stride), (1, 1))
            assert {block.conv2.out_channels for block in stage} == {(32 if name == "study" else 64) * 2**number}
        assert all(block.conv2.dilation == (1, 1) for block in stage)
    if "-c4_" not in name:  # a pyramid finds out at its first picture
        last_convolutions = [stage[-1].conv3 if shape.bottleneck else stage[-1].conv2 for stage in stages]
        assert list(model.neck.in_channels) == [layer.out_channels for layer in last_convolutions]


def test_every_layer_is_trained_on_its_batch(built):
    name, runner = built
    norm = nn.BatchNorm2d if name in SMALL else nn.SyncBatchNorm
    for where, part in trained_parts(runner.model).items():
        assert all(parameter.requires_grad for parameter in part.parameters())
        own = norm if where != "backbone" or architecture(name) != SWIN else nn.LayerNorm
        asked = [kind for full, kind in runner.norms_asked_for.items() if full.startswith(f"{where}.")]
        assert asked
        assert all(issubclass(kind, own) for kind in asked)
        norms = [layer for layer in part.modules() if isinstance(layer, BATCH_NORM)]
        assert len(norms) == (len(asked) if own is norm else 0)
        for layer in norms:
            assert layer.training
            assert layer.track_running_stats
            assert (layer.eps, layer.momentum, layer.affine) == (1e-5, 0.1, True)
    assert all(module.training for module in runner.model.modules())
    assert set(trained_parts(runner.model)) == {"backbone", "roi_head.shared_head" if "-c4_" in name else "neck"}


def test_regions_and_classes(built):
    name, runner = built
    head = runner.model.roi_head
    assert head.bbox_head.num_classes == (80 if "coco" in name else 20)
    assert head.bbox_head.fc_cls.out_features == head.bbox_head.num_classes + 1
    assert head.bbox_head.fc_reg.out_features == 4 * head.bbox_head.num_classes
    for layer in head.bbox_roi_extractor.roi_layers:
        assert type(layer).__name__ == "RoIAlign"
        assert (layer.aligned, layer.sampling_ratio, layer.pool_mode) == (True, 0, "avg")
    if "-c4_" in name:
        shared, channels = head.shared_head, 2048 if RESNETS[architecture(name)].bottleneck else 512
        assert not hasattr(runner.model.backbone, "layer4")
        assert shared.norm.num_features == channels
        shared.eval()
        regions = torch.rand(2, channels // 2, 14, 14, generator=torch.Generator().manual_seed(0))
        shared.norm.weight.data.uniform_(0.5, 1.5)
        with torch.no_grad():
            found, before = shared(regions), shared.layer4(regions)
            assert found.shape == (2, channels, 7, 7)
            assert torch.equal(found, shared.norm(before))
            assert not torch.equal(found, before)
        shared.train()


def test_number_of_parameters_is_detectron2s_and_the_lab_notes(built):
    name, runner = built
    number = sum(parameter.numel() for parameter in runner.model.parameters())
    if name in PARAMETERS:
        assert number == PARAMETERS[name]
    for noted in re.findall(r"the detector has ([\d.]+) million", RECIPES[name].read_text()):
        assert round(number / 1e6, 1) == float(noted)


SGD_24K = {0: 2e-5, 50: 0.01001, 100: 0.02, 17999: 0.02, 18000: 0.002, 21999: 0.002, 22000: 0.0002, 23999: 0.0002}
SGD_1X = {0: 2e-5, 500: 0.01001, 1000: 0.02, 59999: 0.02, 60000: 0.002, 79999: 0.002, 80000: 0.0002, 89999: 0.0002}
SGD_2X = {0: 2e-5, 500: 0.01001, 1000: 0.02, 119999: 0.02, 120000: 0.002, 159999: 0.002, 160000: 0.0002, 179999: 0.0002}
STUDY_RATES = {0: 4e-5, 19: 8e-4, 159: 8e-4, 160: 8e-5, 199: 8e-5}
QUICK_RATES = {0: 2.5e-5, 19: 5e-4, 255: 5e-4, 256: 5e-5, 319: 5e-5}


class NoPictures(BaseLoop):
    """The loop that the Runner asks for its length when it builds the schedulers."""

    max_iters = -1  # no schedule of the recipes takes its end from here

    def run(self) -> None:
        raise NotImplementedError


def wanted_rates(name: str) -> dict[int, float]:
    kinds = {"voc0712": SGD_24K, "1x_coco": SGD_1X, "2x_coco": SGD_2X, "quickstart": QUICK_RATES, "study": STUDY_RATES}
    [rates] = [rates for kind, rates in kinds.items() if kind in name]
    return {iteration: rate / (200 if "swin" in name else 1) for iteration, rate in rates.items()}


def optimizer_of(name: str) -> Any:
    return torch.optim.AdamW if "swin" in name or name in SMALL else torch.optim.SGD


def test_norms_and_positions_have_no_weight_decay(built):
    """As in Detectron2, where WEIGHT_DECAY_NORM is 0; MMDetection's own recipes for ResNets let norms decay."""
    name, runner = built
    optimizer = runner.build_optim_wrapper(runner.cfg.optim_wrapper).optimizer
    assert type(optimizer) is optimizer_of(name)
    groups = {id(group["params"][0]): group for group in optimizer.param_groups}
    norms = {
        f"{full}.{key}"
        for full, part in runner.model.named_modules()
        if isinstance(part, (BATCH_NORM, nn.LayerNorm))
        for key, _ in part.named_parameters()
    }
    parameters = dict(runner.model.named_parameters())
    positions = {full for full in parameters if full.endswith("relative_position_bias_table")}
    assert len(positions) == (12 if "swin" in name else 0)
    for full, parameter in parameters.items():
        group, decay = groups[id(parameter)], 1e-4 if optimizer_of(name) is torch.optim.SGD else 0.05
        assert group["weight_decay"] == (0 if full in norms | positions else decay), full
        assert group["lr"] == optimizer.defaults["lr"]
        if optimizer_of(name) is torch.optim.SGD:
            assert (group["momentum"], group["nesterov"]) == (0.9, False)


def test_learning_rate(built):
    """By the Runner's schedulers, for one parameter: with each of the detector's own it would take a minute."""
    name, runner = built
    wrapper = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
    optimizer = optimizer_of(name)([nn.Parameter(torch.zeros(1))], lr=wrapper.optimizer.defaults["lr"])
    runner.optim_wrapper, runner._train_loop = type(wrapper)(optimizer), NoPictures(runner, [])
    schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    optimizer.step()  # torch warns about a schedule that runs before its optimizer
    wanted, found = wanted_rates(name), {}
    assert max(wanted) == runner.cfg.train_cfg.max_iters - 1
    for iteration in range(runner.cfg.train_cfg.max_iters):
        if iteration in wanted:
            found[iteration] = optimizer.param_groups[0]["lr"]
        for scheduler in schedulers:
            scheduler.step()
    assert found == pytest.approx(wanted, rel=1e-6)


LOADED = {  # one of each kind
    "faster-rcnn_r18-c4_voc0712": "c4",
    "faster-rcnn_r50-c4_voc0712": "c4",
    "faster-rcnn_x50-c4_voc0712": "c4",
    "faster-rcnn_r18-fpn_1x_coco": "fpn",
    "faster-rcnn_r50-fpn_1x_coco": "fpn",
    "faster-rcnn_x50-fpn_1x_coco": "fpn",
    "faster-rcnn_swin-t-fpn_1x_coco": "fpn",
    "quickstart": "fpn",
    "study": "fpn",
}


@pytest.mark.parametrize("name", LOADED)
def test_weights_are_in_the_network_when_it_trains(name, tmp_path):
    """All tensors of the file, and nothing of the backbone that is not in it; the Runner initialises before."""
    arch, head = architecture(name), LOADED[name]
    converted = convert(randomised(arch), "mmdet", head=head)
    assert read_config(RECIPES[name], converted.card, head=head).problems == []
    runner = runner_of(name, tmp_path)
    runner.start = converted
    runner._init_model_weights()
    runner.load_or_resume()
    loaded = runner.model.state_dict()
    assert all(torch.equal(loaded[full], tensor) for full, tensor in converted.state_dict.items())
    stages = ("backbone.", "roi_head.shared_head.layer4.")
    own = ("relative_position_index", "backbone.norm0", "backbone.norm1", "backbone.norm2")  # of the detector's Swin
    filled = {full for full in loaded if full.startswith(stages) and not re.search("|".join(own), full)}
    assert filled == set(converted.state_dict)
    assert len(filled) > 100
