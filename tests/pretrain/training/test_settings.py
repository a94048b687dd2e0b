"""Configs: every file builds, and what is wrong in one is named, all of it at once."""

from pathlib import Path

import pytest

from pretrain.automix import AutoMixSettings
from pretrain.console import UserError
from pretrain.training.settings import load_settings, methods_of

ROOT = Path(__file__).parents[3]


def test_a_method_has_the_settings_that_the_config_has_for_it(config):
    own = ROOT / "configs/pretrain/cifar100/r18_800ep.py"
    assert load_settings(own).method.name == "automix"
    assert load_settings(own, method="cutmix").method.alpha == 0.2  # of methods in base_800ep.py
    assert load_settings(own, method="mixup").method.alpha == 1.0  # of configs/pretrain/methods.py
    assert load_settings(own, method="cutmix").name == load_settings(own).name
    assert load_settings(own, method="random_grids").method.alpha == 2.0  # there are none: the default
    assert load_settings(config, method="cutmix").method.alpha == 1.0
    assert methods_of(own)[:3] == ["automix", "vanilla", "mixup"]
    assert methods_of(config) == ["automix"]


def test_changes_hold_for_the_method_that_was_asked_for(config):
    settings = load_settings(config, {"optim.lr": 0.5, "method.alpha": 0.3}, method="cutmix")
    assert (settings.optim.lr, settings.method.name, settings.method.alpha) == (0.5, "cutmix", 0.3)
    assert load_settings(config, None, method="automix").method.momentum == 0.8  # the file's own settings are kept


def test_unknown_names_among_the_methods_are_named(tmp_path, config):
    path = tmp_path / "odd.py"
    path.write_text(config.read_text() + "methods = dict(cutmx=dict(alpha=1.0))\n")
    with pytest.raises(UserError, match="unknown method 'cutmx' in methods; did you mean 'cutmix'"):
        load_settings(path)


def test_paper_defaults():
    settings = AutoMixSettings()  # Section 4.1, "AutoMix uses the same set of hyper-parameters in all experiments"
    assert (settings.alpha, settings.feature_layer, settings.momentum, settings.momentum_end) == (2.0, 3, 0.999, 1.0)
    assert (settings.gamma, settings.margin) == (0.1, 0.1)  # Eq. 7


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
        ({"optim.ema_decay": 1.0}, "ema_decay is 1; it has to be between 0 and 1"),
        ({"optim.clip_norm": 0.0}, "clip_norm is 0; it has to be positive"),
        ({"optim.ema_decay": 0.9, "method.momentum": None}, "automix without its momentum encoder keeps no average"),
        ({"optim.lr.peak": 1}, "--cfg-options: cannot be applied"),
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
