"""Every shim of the OpenMMLab half of transfer.compat: what it does, and that it is applied only where it is needed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pretrain.console import UserError
from transfer.compat import openmmlab_shims as shims

LITE = shims.why_not_compiled() is not None
only_lite = pytest.mark.skipif(not LITE, reason="compiled mmcv is installed: no shim to test")

shims.prepare_mmcv()

from mmcv import ops  # noqa: E402  (once it is prepared)


@pytest.fixture
def fresh():
    """Forget that mmcv was prepared, before and after the test, and put the operators' module back."""
    module = sys.modules.get("mmcv._ext")
    shims.prepare_mmcv.cache_clear()
    yield
    shims.prepare_mmcv.cache_clear()
    if module is not None:
        sys.modules["mmcv._ext"] = module


# ---- the operators that mmcv-lite has not -------------------------------------------------------------------------


def soft_nms():
    ops.soft_nms(torch.ones(2, 4), torch.ones(2))


def deformable():
    ops.DeformConv2d(4, 4, 3, padding=1)(torch.zeros(1, 4, 8, 8), torch.zeros(1, 18, 8, 8))


def modulated_deformable():
    layer = ops.ModulatedDeformConv2d(4, 4, 3, padding=1)
    layer(torch.zeros(1, 4, 8, 8), torch.zeros(1, 18, 8, 8), torch.zeros(1, 9, 8, 8))


def roi_pool():
    ops.RoIPool(7)(torch.zeros(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 8, 8]]))


def roi_align_of_maxima():
    ops.RoIAlign(7, pool_mode="max")(torch.zeros(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 8, 8]]))


def focal_loss():
    ops.sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), 2.0, 0.25, None, "mean")


def carafe():
    ops.CARAFE(5, 1, 2)(torch.zeros(1, 4, 8, 8), torch.zeros(1, 25, 16, 16))


def boxes_overlap():
    ops.bbox_overlaps(torch.ones(1, 4), torch.ones(1, 4))


def rotated_nms():
    ops.nms_rotated(torch.ones(2, 5), torch.ones(2), 0.5)


@only_lite
@pytest.mark.parametrize(
    ("call", "operator"),
    [
        (soft_nms, "softnms"),
        (deformable, "deform_conv_forward"),
        (modulated_deformable, "modulated_deform_conv_forward"),
        (roi_pool, "roi_pool_forward"),
        (roi_align_of_maxima, "RoIAlign with pool_mode 'max'"),
        (focal_loss, "sigmoid_focal_loss_forward"),
        (carafe, "carafe_forward"),
        (boxes_overlap, "bbox_overlaps"),
        (rotated_nms, "nms_rotated"),
    ],
)
def test_every_other_operator_names_itself_and_the_remedy(call, operator):
    with pytest.raises(UserError) as told:
        call()
    message = str(told.value)
    assert message.startswith(f"mmcv's operator {operator} needs compiled mmcv; ")
    assert "docs/install.md" in message
    assert "\n" not in message


@only_lite
def test_mmcv_lists_its_environment():
    from mmcv.utils import collect_env

    assert collect_env()["MMCV Compiler"] == "none, mmcv is not compiled"


# ---- when the shims are applied ------------------------------------------------------------------------------------


def test_stand_in_is_found_by_its_spec():
    module = shims.mmcv_operators()
    assert module.__spec__ is not None
    assert module.__spec__.name == "mmcv._ext"


def test_the_section_that_the_remedy_names_is_there():
    text = (Path(__file__).parents[3] / "docs/install.md").read_text(encoding="utf-8")
    section = text.partition("## With GPUs")[2].partition("\n## ")[0]
    assert "pip uninstall -y mmcv-lite" in section
    assert "mmcv==2.1.0" in section


def test_importing_the_package_imports_neither_detector():
    code = "import sys, transfer.compat; print({'detectron2', 'mmcv', 'mmengine', 'mmdet'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_compiled_mmcv_is_left_alone(monkeypatch, fresh):
    monkeypatch.setattr(shims, "why_not_compiled", lambda: None)
    monkeypatch.setattr(shims, "mmcv_operators", lambda: pytest.fail("replaced the compiled operators"))
    assert shims.prepare_mmcv().endswith("compiled; no shim")


def test_a_compiled_part_that_does_not_load_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)

    def broken(name):
        raise ImportError("undefined symbol: _ZN3c10\nmore")

    monkeypatch.setattr(shims.importlib, "import_module", broken)
    assert shims.why_not_compiled() == "compiled part does not load (undefined symbol: _ZN3c10)"


@pytest.mark.parametrize("name", ["mmdet", "mmcv", "mmengine", "six"])
def test_a_missing_package_is_named_with_the_remedy(monkeypatch, fresh, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else real(wanted))
    with pytest.raises(UserError, match=rf"{name} not installed; pip install"):
        shims.prepare_mmcv()


def test_an_mmcv_that_mmdet_would_refuse_is_refused_with_the_remedy(monkeypatch, fresh):
    import mmcv

    monkeypatch.setattr(mmcv, "__version__", "2.2.0")
    with pytest.raises(UserError, match=r"mmcv 2\.2\.0: mmdet 3\.3 accepts 2\.0 and 2\.1 only; pip install"):
        shims.prepare_mmcv()
