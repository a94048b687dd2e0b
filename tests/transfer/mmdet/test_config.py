"""What each configuration really builds, and what is refused."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch import nn

import transfer.mmdet.finetune  # noqa: F401  (registers MMDetection's modules and ours)
from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.mmdet.config import apply_card, config_head, load_config, set_data_root
from transfer.mmdet.runner import load_exactly

CONFIGS = Path(__file__).parents[3] / "configs"
C4 = CONFIGS / "mmdet" / "faster-rcnn_r50-c4_voc0712.py"
FPN = CONFIGS / "mmdet" / "faster-rcnn_r50-fpn_1x_coco.py"
QUICK = CONFIGS / "quickstart" / "coco_r18_fpn.py"
IMAGENET = BackboneCard(arch="resnet50", classes=())


def build(cfg):
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg.model)


@pytest.fixture(scope="module")
def models():
    """Return {path: the built detector in training mode} of every detector configuration there is."""
    paths = [*(CONFIGS / "mmdet").glob("*.py"), *(CONFIGS / "quickstart").glob("coco_*.py")]
    assert {C4, FPN, QUICK} <= set(paths)
    built = {path: build(load_config(path)) for path in paths}
    for model in built.values():
        model.train()
    return built


def norms(module):
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize(
    ("path", "depth", "classes", "norm"),
    [(C4, 50, 20, nn.SyncBatchNorm), (FPN, 50, 80, nn.SyncBatchNorm), (QUICK, 18, 20, nn.BatchNorm2d)],
)
def test_built_model_is_the_protocols(models, path, depth, classes, norm):
    model = models[path]
    prepare = model.data_preprocessor
    assert prepare.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert prepare.std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])
    # A picture that is all red, as OpenCV reads it (BGR): red must come first.
    red = torch.zeros(3, 32, 32, dtype=torch.uint8)
    red[2] = 255
    ready = prepare({"inputs": [red], "data_samples": None})["inputs"][0]
    assert ready[:, 0, 0].tolist() == pytest.approx([(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375])

    trained = [model.backbone] + ([model.roi_head.shared_head] if path == C4 else [model.neck])
    for part in trained:
        assert all(parameter.requires_grad for parameter in part.parameters())
        assert norms(part)
        assert all(isinstance(layer, norm) and layer.training and layer.track_running_stats for layer in norms(part))
    assert model.backbone.depth == depth
    if depth == 50:  # style "pytorch": the stride sits in the 3x3 convolution
        first = model.backbone.layer2[0]
        assert (first.conv1.stride, first.conv2.stride) == ((1, 1), (2, 2))
    assert model.roi_head.bbox_head.num_classes == classes


def test_c4_runs_stage_4_and_one_more_norm_on_every_roi(models):
    model = models[C4]
    assert not hasattr(model.backbone, "layer4")
    head = model.roi_head.shared_head
    assert head.layer4[0].conv2.stride == (2, 2)
    assert head.norm.num_features == 2048
    head.eval()
    features = torch.rand(2, 1024, 14, 14)
    with torch.no_grad():
        assert torch.equal(head(features), head.norm(head.layer4(features)))


RATES = {0: 0.02 * 0.001, 99: 0.02, 17999: 0.02, 18000: 0.002, 21999: 0.002, 22000: 0.0002, 23999: 0.0002}


def test_learning_rate_of_the_24k_schedule():
    cfg = load_config(C4)
    assert cfg.train_cfg.max_iters == 24000
    assert cfg.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4}
    assert cfg.train_dataloader.batch_size == 2
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
    schedulers = [PARAM_SCHEDULERS.build({"optimizer": optimizer, **entry}) for entry in cfg.param_scheduler]
    optimizer.step()  # torch warns about a schedule that runs before its optimizer
    found = {}
    for iteration in range(24000):
        if iteration in RATES:
            found[iteration] = optimizer.param_groups[0]["lr"]
        for scheduler in schedulers:
            scheduler.step()
    assert found == pytest.approx(RATES, rel=0.02)


def test_the_1x_schedule():
    cfg = load_config(FPN)
    warmup, steps = cfg.param_scheduler
    assert (cfg.train_cfg.max_iters, steps.milestones, steps.gamma, warmup.end) == (90000, [60000, 80000], 0.1, 1000)
    assert (warmup.start_factor, warmup.by_epoch, steps.by_epoch) == (0.001, False, False)
    assert cfg.optim_wrapper.optimizer.lr == 0.02


@pytest.mark.parametrize(("path", "expected"), [(FPN, 1e-4), (QUICK, 0.05)])
def test_norms_are_without_weight_decay_as_in_detectron2(models, path, expected):
    wrapper = build_optim_wrapper(models[path], load_config(path).optim_wrapper)
    decay = {id(group["params"][0]): group["weight_decay"] for group in wrapper.optimizer.param_groups}
    backbone = models[path].backbone
    assert decay[id(backbone.bn1.weight)] == 0
    assert decay[id(backbone.conv1.weight)] == expected


@pytest.mark.parametrize(("path", "arch", "head"), [(C4, "resnet50", "c4"), (QUICK, "resnet18", "fpn")])
def test_weights_are_really_loaded(converted_weights, path, arch, head):
    weights = torch.load(converted_weights(arch, head), weights_only=True)
    model = build(load_config(path))
    load_exactly(model, weights)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    stages = ("backbone.", "roi_head.shared_head.layer4.")
    assert {name for name in loaded if name.startswith(stages)} == set(weights)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("backbone.conv1.weight"), "1 tensors of the backbone would stay random"),
        (lambda w: w.update({"conv1.weight": torch.zeros(1)}), r"conv1.weight \(1,\) does not fit .* \(not in it\)"),
        (lambda w: w.update({"backbone.conv1.weight": torch.zeros(2)}), r"\(2,\) does not fit .*64, 3, 7, 7"),
    ],
)
def test_weights_that_do_not_cover_the_backbone_are_refused(converted_weights, change, told):
    weights = torch.load(converted_weights("resnet18", "fpn"), weights_only=True)
    change(weights)
    with pytest.raises(UserError, match=told):
        load_exactly(build(load_config(QUICK)), weights)


def test_card_decides_the_preprocessing():
    cfg = load_config(FPN)
    card = BackboneCard(arch="resnet50", classes=(), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    apply_card(cfg, card, "fpn")
    prepare = build(cfg).data_preprocessor
    assert prepare.mean.flatten().tolist() == pytest.approx([127.5, 102, 76.5])
    assert prepare.std.flatten().tolist() == pytest.approx([51, 76.5, 63.75])


@pytest.mark.parametrize(
    ("options", "card", "head", "told"),
    [
        (["model.data_preprocessor.bgr_to_rgb=False"], IMAGENET, "fpn", "bgr_to_rgb must be True"),
        (["model.data_preprocessor.std=[1,1,1]"], IMAGENET, "fpn", r"std is \[1.0, 1.0, 1.0\], the weights' card says"),
        (["model.data_preprocessor.mean=[103.53,116.28,123.675]"], IMAGENET, "fpn", "mean is .* leave it to the card"),
        (["model.backbone.style=caffe"], IMAGENET, "fpn", "style is 'caffe', the weights need 'pytorch'"),
        (["model.backbone.depth=18"], IMAGENET, "fpn", "depth is 18, the weights are of resnet50"),
        ([], BackboneCard(arch="resnet18", classes=()), "fpn", "depth is 50, the weights are of resnet18"),
        ([], IMAGENET, "c4", "builds a fpn detector; convert again with --head fpn"),
        ([], BackboneCard(arch="resnet50", classes=(), stem="cifar"), "fpn", "stem 'cifar'"),
    ],
)
def test_contradictions_between_card_and_config_are_refused(options, card, head, told):
    with pytest.raises(UserError, match=told):
        apply_card(load_config(FPN, options), card, head)


def test_the_shared_head_must_fit_too():
    with pytest.raises(UserError, match=r"shared_head\.style is 'caffe'"):
        apply_card(load_config(C4, ["model.roi_head.shared_head.style=caffe"]), IMAGENET, "c4")


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
    ],
)
def test_a_misspelt_option_is_refused(option, told):
    with pytest.raises(UserError, match=told):
        load_config(QUICK, [option])


def test_options_apply_also_where_only_the_constructor_knows_the_key():
    cfg = load_config(
        QUICK, ["model.backbone.with_cp=True", "train_dataloader.pin_memory=True", "train_cfg.max_iters=7"]
    )
    assert (cfg.model.backbone.with_cp, cfg.train_dataloader.pin_memory, cfg.train_cfg.max_iters) == (True, True, 7)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data_preprocessor = dict(type='DetDataPreprocessor')\n", "at the top level is ignored"),
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


def test_heads():
    assert [config_head(load_config(path)) for path in (C4, FPN, QUICK)] == ["c4", "fpn", "fpn"]
