"""Compiled mmcv and what stands in for it with mmcv-lite: the same boxes are kept, and RoIAlign agrees to rounding.

Runs where compiled mmcv is installed; docs/install.md, under "With GPUs", says how to compile it.
"""

import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from transfer.compat import openmmlab_shims as shims

if reason := shims.why_not_compiled():
    pytest.skip(f"nothing to compare with, mmcv is {reason}", allow_module_level=True)

import mmcv
from mmcv import ops
from mmcv.ops.roi_align import RoIAlignFunction


def both_ways(call):
    """Return what `call` gives with compiled mmcv, and with the operators that stand in for it."""
    compiled = call()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["mmcv.ops.nms"], "ext_module", shims.mmcv_operators())
        patch.setattr(sys.modules["mmcv.ops.roi_align"], "roi_align", shims.roi_align)
        return compiled, call()


def test_compiled_mmcv_gets_no_shim():
    assert shims.prepare_mmcv() == f"mmcv {mmcv.__version__}, compiled; no shim"
    assert sys.modules["mmcv._ext"].__file__.endswith(".so")
    assert sys.modules["mmcv.ops.nms"].ext_module is sys.modules["mmcv._ext"]
    assert ops.roi_align == sys.modules["mmcv.ops.roi_align"].roi_align == RoIAlignFunction.apply


# ---- nms -------------------------------------------------------------------------------------------------------


def boxes_of(kind, count, rng):
    """Return (count, 4) boxes in a picture so small that many overlap."""
    corners, sizes = rng.uniform(0, 40, (count, 2)), rng.uniform(1, 25, (count, 2))
    if kind == "touching":  # whole numbers: many share an edge, many coincide, many an IoU that is the threshold
        corners, sizes = corners.round(-1), sizes.round(-1)
    elif kind == "degenerate":  # no width, no height, or neither; some are turned inside out
        sizes[rng.random(count) < 0.5, 0] = 0
        sizes[rng.random(count) < 0.5, 1] = 0
        sizes[rng.random(count) < 0.2] *= -1
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    boxes[count // 2 :: 5] = boxes[0]
    return torch.tensor(boxes, dtype=torch.float32)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("kind", ["random", "touching", "degenerate"])
def test_nms_keeps_the_same_boxes(kind, threshold, offset):
    rng = np.random.default_rng(0)
    for count in (1, 2, 20, 300):
        for _ in range(10):
            boxes = boxes_of(kind, count, rng)
            scores = torch.tensor(rng.integers(0, 30, count) / 30, dtype=torch.float32)  # many are equal
            for settings in ({}, {"score_threshold": 0.5}, {"max_num": 7}):
                compiled, ours = both_ways(
                    lambda boxes=boxes, scores=scores, settings=settings: ops.nms(
                        boxes, scores, threshold, offset=offset, **settings
                    )
                )
                assert torch.equal(compiled[0], ours[0])
                assert torch.equal(compiled[1], ours[1])


@pytest.mark.parametrize("tenths", range(1, 10))
def test_nms_agrees_on_an_iou_that_is_the_threshold(tenths):
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, tenths, 1]])
    compiled, ours = both_ways(lambda: ops.nms(boxes, torch.tensor([0.9, 0.8]), tenths / 10))
    assert compiled[1].tolist() == ours[1].tolist() == [0, 1]


def test_nms_of_no_boxes():
    compiled, ours = both_ways(lambda: ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5))
    for one, other in zip(compiled, ours, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("split_thr", [10000, 1], ids=["in one go", "class by class"])
@pytest.mark.parametrize("kind", ["random", "touching", "degenerate"])
def test_batched_nms_keeps_the_same_boxes(kind, split_thr, class_agnostic):
    rng = np.random.default_rng(1)
    settings = {"type": "nms", "iou_threshold": 0.5, "split_thr": split_thr, "max_num": 100}
    for _ in range(10):
        boxes = boxes_of(kind, 400, rng)
        scores = torch.tensor(rng.integers(0, 30, 400) / 30, dtype=torch.float32)
        classes = torch.tensor(rng.integers(0, 5, 400))
        compiled, ours = both_ways(
            lambda boxes=boxes, scores=scores, classes=classes: ops.batched_nms(
                boxes, scores, classes, settings, class_agnostic
            )
        )
        assert torch.equal(compiled[0], ours[0])
        assert torch.equal(compiled[1], ours[1])


# ---- RoIAlign --------------------------------------------------------------------------------------------------


def regions(count, dtype):
    """Return (count, 5) RoIs in pictures of 600 x 400: within, over the edges, outside, without width or height."""
    rng = np.random.default_rng(2)
    corners = rng.uniform((-100, -100), (650, 450), (200, 2))
    sizes = rng.uniform(0, 300, (200, 2)) * (rng.random((200, 2)) < 0.9)
    rois = np.concatenate([rng.integers(0, 2, (200, 1)), corners, corners + sizes], axis=1)
    rois[0] = (0, 0, 0, 600, 400)
    return torch.tensor(rois[:count], dtype=dtype)


@pytest.mark.parametrize("count", [0, 200])
@pytest.mark.parametrize(("output_size", "stride"), [(7, 4), (14, 16), ((3, 5), 32)])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_roi_align_and_its_gradient_agree(dtype, tolerance, aligned, sampling_ratio, output_size, stride, count):
    """The values go up to 26. The largest difference was 0.0, forward and backward (mmcv 2.1.0, torch 2.14.1, x86-64).

    The tolerance leaves room for another compiler's order of operations.
    """
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 6, 400 // stride, 600 // stride, dtype=dtype, generator=generator)
    rois = regions(count, dtype)
    layer = ops.RoIAlign(output_size, 1 / stride, sampling_ratio, aligned=aligned)
    weights = torch.randn(layer(pictures, rois).shape, dtype=dtype, generator=generator)

    def pooled_and_gradient():
        features = pictures.clone().requires_grad_()
        pooled = layer(features, rois)
        (gradient,) = torch.autograd.grad(pooled, features, weights)
        return pooled.detach(), gradient

    for compiled, ours in zip(*both_ways(pooled_and_gradient), strict=True):
        assert_close(ours, compiled, rtol=0, atol=tolerance)


def test_only_compiled_mmcv_refuses_a_roi_turned_inside_out():
    """What the docstring of the stand-in says; no detector makes such a RoI."""
    layer, rois = ops.RoIAlign(2), torch.tensor([[0.0, 5, 5, 3, 3]])
    with pytest.raises(RuntimeError, match="non-negative size"):
        layer(torch.ones(1, 1, 8, 8), rois)
    assert not shims.roi_align(torch.ones(1, 1, 8, 8), rois, 2).any()
