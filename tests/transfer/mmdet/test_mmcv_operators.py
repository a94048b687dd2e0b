"""NMS and RoIAlign of the installed mmcv, against values that theory fixes, and the detectors that call them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from transfer.compat import prepare_mmcv

COMPILED = prepare_mmcv().endswith("compiled; no shim")

# once mmcv is prepared
import mmdet  # noqa: E402
from mmcv import ops  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

no_float64 = pytest.mark.skipif(COMPILED, reason="the nms of compiled mmcv takes no float64")

# ---- nms -------------------------------------------------------------------------------------------------------


def some_boxes(count, seed):
    """Return (count, 4) whole-number boxes in a small picture, so that many overlap, touch or coincide, and scores."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 24, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 12, (count, 2))], axis=1)
    boxes[count // 2] = boxes[0]
    return boxes, rng.permutation(count) / count


def kept_boxes(boxes, scores, threshold, offset):
    """Return the indices that greedy suppression keeps, best first, computed with whole numbers and fractions."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        x0, y0, x1, y1 = boxes[i].tolist()
        for k in kept:
            u0, v0, u1, v1 = boxes[k].tolist()
            common = max(0, min(x1, u1) - max(x0, u0) + offset) * max(0, min(y1, v1) - max(y0, v0) + offset)
            areas = (x1 - x0 + offset) * (y1 - y0 + offset) + (u1 - u0 + offset) * (v1 - v0 + offset)
            if Fraction(common, areas - common) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=no_float64)])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [Fraction(1, 10), Fraction(3, 10), Fraction(1, 2), Fraction(7, 10)])
def test_nms_keeps_what_exact_arithmetic_keeps(threshold, offset, dtype):
    for seed in range(20):
        boxes, scores = some_boxes(60, seed)
        dets, kept = ops.nms(
            torch.tensor(boxes, dtype=dtype), torch.tensor(scores, dtype=dtype), float(threshold), offset=offset
        )
        wanted = kept_boxes(boxes, scores, threshold, offset)
        assert kept.tolist() == wanted
        assert dets.dtype == dtype
        assert_close(dets, torch.tensor(np.c_[boxes, scores][wanted], dtype=dtype), rtol=0, atol=0)


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_box_whose_iou_is_the_threshold_stays(tenths):
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, tenths, 1]])  # their IoU is tenths / 10
    scores = torch.tensor([0.9, 0.8])
    assert ops.nms(boxes, scores, tenths / 10)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, tenths / 10 - 1e-6)[1].tolist() == [0]


def test_equal_scores_come_in_the_order_of_torchs_sort():
    """As in mmcv, whose sort is not the stable one; from 17 scores on, the two differ (torch 2.14)."""
    scores = torch.tensor(np.random.default_rng(0).integers(0, 3, 40) / 3, dtype=torch.float32)
    boxes = 10 * torch.arange(40.0)[:, None] + torch.tensor([0.0, 0, 9, 9])
    assert torch.equal(ops.nms(boxes, scores, 0.5)[1], scores.sort(descending=True).indices)


def test_nms_has_mmcvs_score_threshold_and_number_of_boxes():
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9]])
    scores = torch.tensor([0.3, 0.9, 0.5, 0.7])
    assert ops.nms(boxes, scores, 0.5, score_threshold=0.5)[1].tolist() == [1, 3], "above it, not at it"
    assert ops.nms(boxes, scores, 0.5, max_num=3)[1].tolist() == [1, 3, 2]
    assert ops.nms(boxes.numpy(), scores.numpy(), 0.5, max_num=1)[1].tolist() == [1]


def test_nms_of_no_boxes():
    dets, kept = ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64
    assert ops.nms(torch.ones(3, 4), torch.full((3,), 0.1), 0.5, score_threshold=0.2)[1].tolist() == []


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("split_thr", [10000, 1], ids=["in one go", "class by class"])
def test_batched_nms_suppresses_within_a_class_only(split_thr, offset):
    boxes, scores = some_boxes(90, seed=3)
    classes = np.arange(90) % 3
    settings = {"type": "nms", "iou_threshold": 0.3, "offset": offset, "split_thr": split_thr, "max_num": 25}
    dets, kept = ops.batched_nms(
        torch.tensor(boxes, dtype=torch.float32),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(classes),
        settings,
    )
    wanted = []
    for one in range(3):
        members = np.flatnonzero(classes == one)
        wanted += members[kept_boxes(boxes[members], scores[members], Fraction(3, 10), offset)].tolist()
    wanted = sorted(wanted, key=lambda index: -scores[index])
    assert len(wanted) > 25, "max_num has something to cut"
    assert kept.tolist() == wanted[:25]
    assert_close(dets, torch.tensor(np.c_[boxes, scores][wanted[:25]], dtype=torch.float32), rtol=0, atol=0)


# ---- RoIAlign --------------------------------------------------------------------------------------------------


def ramp(dtype):
    """Return features (2, 2, 20, 24) that equal x and y in the first picture, 100 more in the second."""
    y, x = torch.meshgrid(torch.arange(20, dtype=dtype), torch.arange(24, dtype=dtype), indexing="ij")
    picture = torch.stack([x, y])
    return torch.stack([picture, picture + 100])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_of_a_ramp_is_the_ramp_at_the_centres_of_the_bins(aligned, sampling_ratio, dtype):
    rois = torch.tensor([[0, 12.0, 20, 60, 44], [1, 33.0, 17, 70.5, 59.5]], dtype=dtype)
    layer = ops.RoIAlign((4, 3), spatial_scale=0.25, sampling_ratio=sampling_ratio, aligned=aligned)
    x0, y0, x1, y1 = rois[:, 1:].T / 4 - (0.5 if aligned else 0)
    xs = x0[:, None] + (x1 - x0)[:, None] * (torch.arange(3, dtype=dtype) + 0.5) / 3
    ys = y0[:, None] + (y1 - y0)[:, None] * (torch.arange(4, dtype=dtype) + 0.5) / 4
    wanted = torch.stack([xs[:, None, :].expand(2, 4, 3), ys[:, :, None].expand(2, 4, 3)], dim=1)
    wanted = wanted + 100 * rois[:, :1, None, None]
    found = layer(ramp(dtype), rois)
    assert found.dtype == dtype
    assert_close(found, wanted)
    from mmcv.ops.roi_align import roi_align  # as mmdet's masks import it

    assert torch.equal(roi_align(ramp(dtype), rois, (4, 3), 0.25, sampling_ratio, "avg", aligned), found)
    assert torch.equal(ops.roi_align(ramp(dtype), rois, (4, 3), 0.25, sampling_ratio, "avg", aligned), found)


def test_without_alignment_a_roi_is_a_pixel_wide_at_least():
    found = ops.RoIAlign(1, sampling_ratio=2, aligned=False)(ramp(torch.float32), torch.tensor([[0.0, 5, 6, 5, 6]]))
    assert_close(found[0, :, 0, 0], torch.tensor([5.5, 6.5]))
    found = ops.RoIAlign(1, sampling_ratio=2)(ramp(torch.float32), torch.tensor([[0.0, 5, 6, 5, 6]]))
    assert_close(found[0, :, 0, 0], torch.tensor([4.5, 5.5]))


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_gradient_of_roi_align_is_that_of_finite_differences(aligned, sampling_ratio):
    features = torch.randn(2, 1, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0, 1.0, 2, 9, 8], [1, 0.0, 3, 5, 10.5]], dtype=torch.float64)
    layer = ops.RoIAlign(2, spatial_scale=0.5, sampling_ratio=sampling_ratio, aligned=aligned)
    assert torch.autograd.gradcheck(lambda x: layer(x, rois), features.requires_grad_())


def test_roi_align_of_no_rois():
    features = ramp(torch.float32).requires_grad_()
    found = ops.RoIAlign(7)(features, torch.zeros(0, 5))
    assert found.shape == (0, 2, 7, 7)
    found.sum().backward()
    assert features.grad is not None
    assert not features.grad.any()


def small_detector(name):
    """Return MMDetection's own configuration of the model `name`, with a ResNet-18 and few proposals."""
    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs/_base_/models" / f"{name}.py").model
    cfg.backbone.update(depth=18, init_cfg=None)
    if "neck" in cfg:
        cfg.neck.in_channels = [64, 128, 256, 512]
    else:
        cfg.rpn_head.update(in_channels=256, feat_channels=256)
        cfg.roi_head.shared_head.depth = 18
        cfg.roi_head.bbox_roi_extractor.out_channels = 256
        cfg.roi_head.bbox_head.in_channels = cfg.roi_head.mask_head.in_channels = 512
    cfg.train_cfg.rpn_proposal.max_per_img = cfg.test_cfg.rpn.max_per_img = 20
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(cfg)


@pytest.mark.parametrize("name", ["mask-rcnn_r50-caffe-c4", "mask-rcnn_r50_fpn"])
def test_detectors_train_and_detect_boxes_and_masks(name):
    """No operator is refused; the ones of Faster R-CNN are among those of Mask R-CNN."""
    torch.manual_seed(0)
    detector = small_detector(name)
    sample = DetDataSample(
        metainfo={**dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), (96, 96)), "scale_factor": (1.0, 1.0)}
    )
    masks = np.zeros((1, 96, 96), np.uint8)
    masks[0, 16:64, 16:64] = 1
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[16.0, 16, 64, 64]]), labels=torch.tensor([3]), masks=BitmapMasks(masks, 96, 96)
    )
    images = torch.randn(1, 3, 96, 96)
    losses = detector.loss(images, [sample])
    assert {"loss_bbox", "loss_mask"} <= losses.keys()
    sum(value for key, value in losses.items() if key == "loss_mask").backward()
    assert detector.backbone.conv1.weight.grad is None, "MMDetection freezes the stem"
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in detector.backbone.parameters())
    detector.test_cfg.rcnn.score_thr = 0.0
    with torch.no_grad():
        found = detector.eval().predict(images, [sample])[0].pred_instances
    assert len(found) > 0
    assert found.masks.shape == (len(found), 96, 96)
