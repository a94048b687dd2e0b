"""Where Detectron2's Faster R-CNN and MMDetection's, both by our recipes, differ by design: one case for each.

docs/mmdetection.md lists these. If a case here fails after a new version or a changed config, the list is out of date.
"""

from __future__ import annotations

import copy

import pytest
import torch
from detector_pairs import Pair, build_mmdet, fresh_pair, mmdet_config, picture
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, Instances
from mmdet.registry import TASK_UTILS
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor


@pytest.fixture(scope="module", params=["fpn", "c4"])
def fresh(request: pytest.FixtureRequest) -> Pair:
    return fresh_pair("resnet18", request.param)


# ---- the picture ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_c4s_picture_is_padded_in_mmdet_alone(fresh: Pair) -> None:
    """Detectron2 pads for the pyramid (`size_divisibility`). With pad_size_divisor=1 MMDetection does no more."""
    one, other = fresh.detectron2, copy.copy(fresh.mmdet.data_preprocessor)
    image = picture(150, 170)
    theirs = one.preprocess_image([{"image": image}]).tensor
    assert theirs.shape[2:] == ((160, 192) if fresh.head == "fpn" else (150, 170))
    other.pad_size_divisor = 32
    ours = other({"inputs": [image.flip(0)]})["inputs"]
    assert ours.shape[2:] == (160, 192)
    assert torch.equal(ours[:, :, :150, :170], theirs[:, :, :150, :170])
    assert ours[:, :, 150:].eq(0).all()
    if fresh.head == "c4":
        other.pad_size_divisor = 1
        assert torch.equal(other({"inputs": [image.flip(0)]})["inputs"], theirs)


# ---- the region proposals ------------------------------------------------------------------------------------------


def test_mmdet_leaves_anchors_out_that_lie_in_the_padding_of_a_batch(fresh: Pair) -> None:
    """Detectron2 samples them as background; MMDetection asks for the picture's own padded size (`valid_flags`)."""
    one, other = fresh.detectron2, fresh.mmdet
    small, large = (96, 96), (160, 192)
    strides = (4, 8, 16, 32, 64) if fresh.head == "fpn" else (16,)
    sizes = [(-(-large[0] // stride), -(-large[1] // stride)) for stride in strides]
    metas = [{"img_shape": size, "pad_shape": size} for size in (small, large)]
    _, [flags, all_flags] = other.rpn_head.get_anchors(sizes, metas, device="cpu")
    anchors = one.proposal_generator.anchor_generator([torch.zeros(1, 1, *size) for size in sizes])
    number = sum(len(level) for level in anchors)
    box = Boxes(torch.tensor([[8.0, 8.0, 72.0, 72.0]]))
    rpn = copy.copy(one.proposal_generator)
    rpn.batch_size_per_image = 10 * number
    truths = [Instances(size, gt_boxes=box) for size in (small, large)]
    labels, _ = rpn.label_and_sample_anchors(anchors, truths)
    assert torch.cat(all_flags).all()
    assert torch.cat(flags).sum() < 0.4 * number
    beyond = Boxes.cat(anchors).get_centers().min(1).values > 96
    assert beyond.sum() > 0.1 * number
    assert (labels[0][beyond] == 0).all()
    assert not torch.cat(flags)[beyond].any()  # only within a place do the two number the anchors differently


def match(pair: Pair, overlaps: Tensor, part: str = "rpn", **changed: float) -> tuple[list[int], list[int]]:
    """Return, by either framework, each anchor's or region's object: from 1 on; 0 for background, -1 to be ignored.

    Args:
        pair: For its configs.
        overlaps: (objects, anchors) IoU.
        part: "rpn" or "rcnn".
        changed: Settings of MMDetection's assigner that differ from the recipe.
    """
    models = pair.configs[0].MODEL, pair.configs[1].model
    settings = models[0].RPN if part == "rpn" else models[0].ROI_HEADS
    matcher = Matcher(settings.IOU_THRESHOLDS, settings.IOU_LABELS, allow_low_quality_matches=part == "rpn")
    indices, labels = matcher(overlaps)
    with DefaultScope.overwrite_default_scope("mmdet"):
        assigner = TASK_UTILS.build({**models[1].train_cfg[part].assigner, **changed})
    assigned = assigner.assign_wrt_overlaps(overlaps, torch.arange(len(overlaps)))
    theirs = torch.where(labels == 1, indices + 1, labels.long())
    return theirs.tolist(), assigned.gt_inds.tolist()


def test_anchors_and_regions_are_matched_alike_at_the_thresholds(fresh: Pair) -> None:
    overlaps = torch.tensor([[0.0, 0.29, 0.3, 0.69, 0.7, 0.9, 0.4, 0.5], [0.1, 0.0, 0.2, 0.5, 0.6, 0.1, 0.8, 0.1]])
    theirs, ours = match(fresh, overlaps)
    assert theirs == ours == [0, 0, -1, -1, 1, 1, 2, -1]
    theirs, ours = match(fresh, overlaps, "rcnn")
    assert theirs == ours == [0, 0, 0, 1, 1, 1, 2, 1]


def test_an_object_that_no_anchor_covers_well(fresh: Pair) -> None:
    """Detectron2 gives every object its best anchor; MMDetection if they overlap by min_pos_iou, 0.3 in its configs."""
    for least, expected in ((0.3, [0, 0]), (0.0, [1, 0])):
        theirs, ours = match(fresh, torch.tensor([[0.2, 0.1]]), min_pos_iou=least)
        assert theirs == [1, 0]
        assert ours == expected


def test_an_anchor_that_is_the_best_of_one_object_and_covers_another_better(fresh: Pair) -> None:
    """Detectron2 regresses it to the one that it covers better, MMDetection to the one whose best it is."""
    theirs, ours = match(fresh, torch.tensor([[0.9, 0.95], [0.8, 0.1]]))
    assert theirs == [1, 1]
    assert ours == [2, 1]


def test_rpn_scores_that_the_sigmoid_cannot_tell_apart(fresh: Pair) -> None:
    """Detectron2 sorts by the logit, MMDetection by its sigmoid, which is 1 in float32 from about 17 on."""
    other = fresh.mmdet
    logits = torch.tensor([18.0, 25.0])
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 90.0, 90.0]])
    [proposals] = find_top_rpn_proposals([boxes[None]], [logits[None]], [(96, 96)], 0.7, 10, 10, 0.0, False)
    assert proposals.proposal_boxes.tensor.tolist() == boxes.flip(0).tolist()
    scored = InstanceData(bboxes=boxes, scores=logits.sigmoid(), level_ids=torch.zeros(2, dtype=torch.long))
    found = other.rpn_head._bbox_post_process(scored, other.test_cfg.rpn, img_meta={})
    assert found.scores.tolist() == [1.0, 1.0]


# ---- the regions ---------------------------------------------------------------------------------------------------


def test_regions_at_the_border_between_two_levels() -> None:
    """Both add a small number before rounding down, 1e-8 of 224 pixels there and 1e-6 of 56 here."""
    side = torch.tensor([111.9, 111.99997, 112.0, 223.99997, 224.0, 448.0])
    boxes = torch.stack([torch.zeros(6), torch.zeros(6), side, side], 1)
    theirs = assign_boxes_to_levels([Boxes(boxes)], 2, 5, 224, 4)
    extractor = build_mmdet(mmdet_config("resnet18", "fpn")).roi_head.bbox_roi_extractor
    ours = extractor.map_roi_levels(torch.cat([torch.zeros(6, 1), boxes], 1), 4)
    assert theirs.tolist() == [0, 0, 1, 1, 2, 3]
    assert ours.tolist() == [0, 1, 1, 2, 2, 3]


def test_a_box_may_shrink_further_in_detectron2(fresh: Pair) -> None:
    """Both let a box grow 62.5-fold at most; only MMDetection keeps it from shrinking below 16/1000 of its size."""
    box = torch.tensor([[100.0, 100.0, 300.0, 300.0]])
    for deltas, theirs, ours in (
        ([0.0, 0.0, 5.0, 0.0], 12500.0, 12500.0),
        ([0.0, 0.0, -4.0, 0.0], 3.663, 3.663),
        ([0.0, 0.0, -6.0, 0.0], 0.496, 3.2),
    ):
        x0, _, x1, _ = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).apply_deltas(torch.tensor([deltas]), box)[0]
        assert float(x1 - x0) == pytest.approx(theirs, rel=1e-3)
        x0, _, x1, _ = fresh.mmdet.rpn_head.bbox_coder.decode(box, torch.tensor([deltas]))[0]
        assert float(x1 - x0) == pytest.approx(ours, rel=1e-3)


def test_mmdet_keeps_detections_of_no_area(fresh: Pair) -> None:
    """A box beside the picture becomes one of no width when it is clipped; Detectron2 drops it, after the best 100."""
    other = fresh.mmdet
    classes = fresh.configs[0].MODEL.ROI_HEADS.NUM_CLASSES
    inside, beside = [10.0, 10.0, 50.0, 60.0], [80.0, 10.0, 96.0, 60.0]
    regions = torch.tensor([inside, beside])
    deltas = torch.zeros(2, 4 * classes)
    deltas[1, ::4] = 20.0  # two widths to the right, beyond 96
    logits = torch.zeros(2, classes + 1)
    logits[:, 0] = 10.0
    boxes = Box2BoxTransform((10.0, 10.0, 5.0, 5.0)).apply_deltas(deltas, regions)
    found, _ = fast_rcnn_inference_single_image(boxes, logits.softmax(1), (96, 96), 0.05, 0.5, 100)
    found = detector_postprocess(found, 96, 96)
    assert found.pred_boxes.tensor.tolist() == [inside]
    rois = torch.cat([torch.zeros(2, 1), regions], 1)
    meta = {"img_shape": (96, 96), "scale_factor": (1.0, 1.0)}
    [kept] = other.roi_head.bbox_head.predict_by_feat((rois,), (logits,), (deltas,), [meta], other.test_cfg.rcnn)
    assert sorted(kept.bboxes.tolist()) == [inside, [96.0, 10.0, 96.0, 60.0]]
