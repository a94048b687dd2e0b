"""Every shim of the mmcv half of transfer.compat: what it does, and that it is applied only where it is needed."""

import importlib.util
import sys

import pytest
import torch

from pretrain.console import UserError
from transfer import compat


@pytest.fixture
def fresh():
    """Forget that mmcv was prepared, before and after the test, and put the operators' module back."""
    module = sys.modules.get("mmcv._ext")
    compat.prepare_mmcv.cache_clear()
    yield
    compat.prepare_mmcv.cache_clear()
    if module is not None:
        sys.modules["mmcv._ext"] = module


def test_stand_in_is_found_by_its_spec_and_refuses_by_name():
    module = compat.mmcv_operators()
    assert module.__spec__ is not None
    assert module.__spec__.name == "mmcv._ext"
    with pytest.raises(UserError, match=r"'deform_conv_forward' needs compiled mmcv; pip uninstall mmcv-lite"):
        module.deform_conv_forward(torch.zeros(1))


def test_nms_keeps_the_best_of_overlapping_boxes():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4], [20, 20, 29, 29], [0, 0, 9, 9]])
    scores = torch.tensor([0.5, 0.9, 0.7, 0.4])
    nms = compat.mmcv_operators().nms
    # IoU of the first two: 36/81 = 0.444, or with the last pixel counted 50/100 = 0.5. Best first: 1, 2, 0, 3.
    assert nms(boxes, scores, iou_threshold=0.45, offset=0).tolist() == [1, 2, 0]
    assert nms(boxes, scores, iou_threshold=0.45, offset=1).tolist() == [1, 2]
    assert nms(boxes, scores, iou_threshold=0.43, offset=0).tolist() == [1, 2]


@pytest.mark.skipif(compat._why_not_compiled() is None, reason="compiled mmcv is installed: no shim to test")
def test_roi_align_goes_through_torchvision():
    compat.prepare_mmcv()
    from mmcv.ops import RoIAlign
    from torchvision.ops import roi_align

    features = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 4, 4, 40, 50]])
    found = RoIAlign(3, spatial_scale=0.125, sampling_ratio=0)(features, rois)
    assert torch.equal(found, roi_align(features, rois, 3, 0.125, 0, aligned=True))
    with pytest.raises(UserError, match="pool_mode 'max' needs compiled mmcv"):
        RoIAlign(3, pool_mode="max")


def test_compiled_mmcv_is_left_alone(monkeypatch, fresh):
    monkeypatch.setattr(compat, "_why_not_compiled", lambda: None)
    monkeypatch.setattr(compat, "mmcv_operators", lambda: pytest.fail("replaced the compiled operators"))
    assert compat.prepare_mmcv().endswith("compiled; no shim")


def test_a_compiled_part_that_does_not_load_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)

    def broken(name):
        raise ImportError("undefined symbol: _ZN3c10\nmore")

    monkeypatch.setattr(compat.importlib, "import_module", broken)
    assert compat._why_not_compiled() == "compiled part does not load (undefined symbol: _ZN3c10)"


@pytest.mark.parametrize("name", ["mmdet", "mmcv", "mmengine", "six"])
def test_a_missing_package_is_named_with_the_remedy(monkeypatch, fresh, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else real(wanted))
    with pytest.raises(UserError, match=rf"{name} not installed; pip install"):
        compat.prepare_mmcv()


def test_an_mmcv_that_mmdet_would_refuse_is_refused_with_the_remedy(monkeypatch, fresh):
    import mmcv

    monkeypatch.setattr(mmcv, "__version__", "2.2.0")
    with pytest.raises(UserError, match=r"mmcv 2\.2\.0: mmdet 3\.3 accepts 2\.0 and 2\.1 only; pip install"):
        compat.prepare_mmcv()


def test_own_checkpoints_load_and_others_do_not(tmp_path):
    compat.prepare_mmcv()
    from mmengine.logging import HistoryBuffer
    from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint

    own, foreign = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (own, foreign):
        folder.mkdir()
        torch.save({"state_dict": {}, "message_hub": HistoryBuffer()}, folder / "iter_1.pth")
    before = CheckpointLoader._schemes[""]
    with compat.trusted_checkpoints(own) as applied:
        assert applied == (compat._release(torch.__version__) >= (2, 6))
        assert isinstance(_load_checkpoint(str(own / "iter_1.pth"))["message_hub"], HistoryBuffer)
        for path in (foreign / "iter_1.pth", own / ".." / "elsewhere" / "iter_1.pth"):
            with pytest.raises(Exception, match="Weights only load failed"):
                _load_checkpoint(str(path))
    assert CheckpointLoader._schemes[""] is before


def test_no_shim_for_older_torch(monkeypatch, tmp_path):
    from mmengine.runner.checkpoint import CheckpointLoader

    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    before = CheckpointLoader._schemes[""]
    with compat.trusted_checkpoints(tmp_path) as applied:
        assert applied is False
        assert CheckpointLoader._schemes[""] is before
