"""Configs: every file builds, and what is wrong in one is named, all of it at once."""

from pathlib import Path

import pytest
import timm
from PIL import Image

from pretrain.automix import AutoMixSettings
from pretrain.backbones import build_backbone
from pretrain.console import UserError
from pretrain.data.transforms import eval_transform, train_transform
from pretrain.training import methods
from pretrain.training.methods import build_method
from pretrain.training.optim import Schedule, build_optimizer
from pretrain.training.settings import load_settings

ROOT = Path(__file__).parents[3]
CONFIGS = [ROOT / "configs/quickstart/pretrain.py", *sorted((ROOT / "configs/pretrain").glob("*/[!b]*_*_*.py"))]


@pytest.fixture
def no_downloads(monkeypatch):
    """Give frozen networks random weights, once it is known that their name is one of timm's."""

    def load(source):
        assert source in timm.list_pretrained()
        return build_backbone(source.partition(".")[0], 10).requires_grad_(False).eval()

    monkeypatch.setattr(methods, "load_pretrained", load)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_builds(path, no_downloads):
    settings = load_settings(path)
    assert settings.backbone.pretrained in [None, *timm.list_pretrained()]
    method = build_method(settings.method, build_backbone(settings.backbone.name, 10), 10)
    schedule = Schedule(build_optimizer(method, settings.optim), settings.optim, steps_per_epoch=10)
    assert schedule.total_steps == 10 * settings.optim.epochs
    image = Image.new("RGB", (300, 200))
    size = settings.data.transform.size
    for transform in (train_transform(settings.data.transform), eval_transform(settings.data.transform)):
        assert transform(image).shape == (3, size, size)


@pytest.mark.parametrize(
    ("folder", "arch", "epochs"),
    [("cifar100", "r18", "800ep"), ("imagenet", "r50", "100ep"), ("cub200", "r18", "200ep")],
)
def test_every_method_of_the_comparison_has_its_config(folder, arch, epochs):
    """Twelve of the thirteen, vanilla and AutoMix; TransMix needs a transformer."""
    compared = {
        "mixup", "cutmix", "manifoldmix", "augmix", "attentivemix", "saliencymix", "fmix", "resizemix", "puzzlemix",
        "comixup", "supermix", "alignmix", "vanilla", "automix",
    }  # fmt: skip
    there = {path.name.split("_")[1] for path in (ROOT / "configs/pretrain" / folder).glob(f"{arch}_*_{epochs}.py")}
    assert compared <= there
    assert (ROOT / "configs/pretrain/imagenet/deits_transmix_300ep.py").is_file()


@pytest.mark.parametrize(  # appendix A.1, "Reproduction settings"
    ("folder", "alphas"),
    [
        (
            "cifar100/r18_{}_800ep.py",
            {"mixup": 1, "resizemix": 1, "cutmix": 0.2, "fmix": 0.2, "saliencymix": 0.2, "manifoldmix": 2},
        ),
        (
            "imagenet/r50_{}_100ep.py",
            {"manifoldmix": 0.2, "mixup": 1, "cutmix": 1, "fmix": 1, "saliencymix": 1, "resizemix": 1},
        ),
        (
            "cub200/r18_{}_200ep.py",
            {"saliencymix": 0.2, "fmix": 0.2, "manifoldmix": 0.5, "mixup": 1, "cutmix": 1, "resizemix": 1},
        ),
    ],
)
def test_alphas_are_the_papers(folder, alphas):
    for method, alpha in {**alphas, "puzzlemix": 1, "comixup": 2, "automix": 2}.items():
        assert load_settings(ROOT / "configs/pretrain" / folder.format(method)).method.alpha == alpha, method


def test_paper_defaults():
    settings = AutoMixSettings()  # Section 4.1, "AutoMix uses the same set of hyper-parameters in all experiments"
    assert (settings.alpha, settings.feature_layer, settings.momentum, settings.momentum_end) == (2.0, 3, 0.999, 1.0)
    assert (settings.gamma, settings.margin) == (0.1, 0.1)  # Eq. 7


def test_a_compared_method_has_the_settings_of_its_own_config(config):
    own = ROOT / "configs/pretrain/cifar100/r18_automix_800ep.py"
    assert load_settings(own, method="cutmix").method.alpha == 0.2  # of r18_cutmix_800ep.py
    assert load_settings(own, method="cutmix").name == load_settings(own).name
    assert load_settings(own, method="random_grids").method.alpha == 2.0  # there is no such config: the default
    assert load_settings(config, method="cutmix").method.alpha == 1.0


def test_changes_and_method(config):
    settings = load_settings(config, {"optim.lr": 0.5}, method="cutmix")
    assert settings.optim.lr == 0.5
    assert settings.method.name == "cutmix"
    assert load_settings(config, None, method="automix").method.momentum == 0.8  # the file's own settings are kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optm.lr": 1}, "unknown key 'optm'; did you mean 'optim'"),
        ({"optim.momentun": 1}, "unknown key 'optim.momentun'; did you mean 'momentum'"),
        ({"method.alpa": 1}, "unknown key 'method.alpa'; did you mean 'alpha'"),
        ({"data.transform.sise": 1}, "unknown key 'data.transform.sise'; did you mean 'size'"),
        ({"method.name": "automx"}, "unknown method 'automx'; did you mean 'automix'"),
        ({"method": {"name": "cutmix", "grid": 3}}, "unknown key 'method.grid'; known: alpha"),
        ({"method": {"name": "fmix", "alpha": 0}}, "fmix: alpha has to be positive, not 0"),
        ({"method": {"name": "fmix", "spectrum": "true"}}, "method.spectrum: input should be 'intended' or 'official'"),
        ({"method": {"name": "attentivemix"}}, "'attentivemix' needs a frozen network: set method.frozen_network"),
        (
            {"method": {"name": "mixup", "frozen_network": "x"}},
            "frozen_network belongs to methods that follow one, not",
        ),
        ({"method": {"name": "augmix", "one_hot_ce": True}}, "one_hot_ce is part of 'augmix' already"),
        ({"data.soft_labelled": "x"}, "soft labels, which automix does not mix"),
        ({"optim.lr": "fast"}, "optim.lr: input should be a valid number"),
        ({"run.precision": "8-true"}, "run.precision: input should be '32-true'"),
    ],
)
def test_wrong_values_are_named(config, changes, message):
    with pytest.raises(UserError, match=message):
        load_settings(config, changes)


def test_all_errors_at_once(config):
    with pytest.raises(UserError, match=r"momentun.*sed") as caught:
        load_settings(config, {"run.sed": 1, "optim.momentun": 1})
    assert "\n" not in str(caught.value)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(UserError, match="no such config"):
        load_settings(tmp_path / "absent.py")
    (tmp_path / "broken.py").write_text("name = 1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load_settings(tmp_path / "broken.py")
    (tmp_path / "nameless.py").write_text("data = dict(root='x')\nmethod = dict(name='vanilla')\n")
    with pytest.raises(UserError, match="name: field required"):
        load_settings(tmp_path / "nameless.py")
