"""Configs: every file builds, and what is wrong in one is named, all of it at once."""

from pathlib import Path

import pytest
from PIL import Image

from pretrain.automix import AutoMixSettings
from pretrain.backbones import build_backbone
from pretrain.console import UserError
from pretrain.data.transforms import eval_transform, train_transform
from pretrain.training.methods import build_method
from pretrain.training.optim import Schedule, build_optimizer
from pretrain.training.settings import load_settings

ROOT = Path(__file__).parents[3]
CONFIGS = [ROOT / "configs/quickstart/pretrain.py", *sorted((ROOT / "configs/pretrain").glob("*/*_*_*.py"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds(path):
    settings = load_settings(path)
    method = build_method(settings.method, build_backbone(settings.backbone.name, 10), 10)
    schedule = Schedule(build_optimizer(method, settings.optim), settings.optim, steps_per_epoch=10)
    assert schedule.total_steps == 10 * settings.optim.epochs
    image = Image.new("RGB", (300, 200))
    size = settings.data.transform.size
    for transform in (train_transform(settings.data.transform), eval_transform(settings.data.transform)):
        assert transform(image).shape == (3, size, size)


def test_paper_defaults():
    settings = AutoMixSettings()  # Section 4.1, "AutoMix uses the same set of hyper-parameters in all experiments"
    assert (settings.alpha, settings.feature_layer, settings.momentum, settings.momentum_end) == (2.0, 3, 0.999, 1.0)
    assert (settings.gamma, settings.margin) == (0.1, 0.1)  # Eq. 7


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
