"""The same weights and the same picture through Detectron2's Faster R-CNN and MMDetection's, by our recipes.

What must be the same to the last bit is; where one framework orders a sum otherwise, the tolerance is a few units of
the last place of what is compared. In what the two differ by design: test_frameworks_differ.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from detector_pairs import Pair, build_pair, picture
from detectron2.structures import Boxes
from head_names import ratios_first
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

EVEN, UNEVEN = (160, 192), (150, 170)  # height, width; the second is no multiple of 32
# The time on a CPU is spent on the regions, so both frameworks let fewer than the recipe's 1000 through.
REGIONS = {"resnet18-fpn": 300, "resnet18-c4": 48, "resnet50-fpn": 300, "resnet50-c4": 24}
NEAR = 1e-3  # pixels; the largest difference measured is 6.1e-5


@dataclass(frozen=True)
class Run:
    """Both detectors, and what goes into them for one picture."""

    pair: Pair
    image: Tensor
    theirs: list[dict[str, Any]]
    images: Any
    ours: Any

    @classmethod
    def of(cls, pair: Pair, size: tuple[int, int]) -> Run:
        image = picture(*size)
        theirs, ours = pair.inputs([image])
        return cls(pair, image, theirs, pair.detectron2.preprocess_image(theirs), ours)

    @property
    def samples(self) -> Any:
        return self.ours["data_samples"]


@pytest.fixture(scope="module", params=REGIONS)
def pair(request: pytest.FixtureRequest) -> Pair:
    arch, head = request.param.split("-")
    number = REGIONS[request.param]
    built = build_pair(
        arch, head, ["MODEL.RPN.POST_NMS_TOPK_TEST", str(number)], [f"model.test_cfg.rpn.max_per_img={number}"]
    )
    # Detectron2 does not pad the only picture of a batch for C4; see test_frameworks_differ.py.
    built.mmdet.data_preprocessor.pad_size_divisor = built.detectron2.backbone.size_divisibility or 1
    return built


@pytest.fixture(params=[EVEN, UNEVEN], ids=["even", "uneven"])
def run(request: pytest.FixtureRequest, pair: Pair) -> Run:
    return Run.of(pair, request.param)


def apart(rows: Tensor, others: Tensor) -> float:
    """Return how far apart the rows of two equally long lists are, whatever their order: the worst of the nearest."""
    distances = (rows[:, None] - others).abs().amax(2)
    return float(torch.maximum(distances.amin(0), distances.amin(1)).max())


@torch.no_grad()
def test_prepared_picture_and_features_are_equal_to_the_last_bit(run: Run) -> None:
    one, other = run.pair.detectron2, run.pair.mmdet
    assert torch.equal(run.images.tensor, run.ours["inputs"])
    assert run.images.tensor.abs().max() > 1.5  # normalised, not empty
    body = one.backbone.bottom_up if run.pair.head == "fpn" else one.backbone
    stages, expected = other.backbone(run.ours["inputs"]), body(run.images.tensor)
    assert list(expected) == (["res2", "res3", "res4", "res5"] if run.pair.head == "fpn" else ["res4"])
    assert len(stages) == len(expected)
    for features, wanted in zip(stages, expected.values()):
        assert wanted.std() > 0.1
        assert torch.equal(features, wanted)


@torch.no_grad()
def test_padding_changes_what_a_c4_detector_sees_at_the_border(pair: Pair) -> None:
    """The convolutions reach into the padding; why a picture has to be padded alike for the rest to agree."""
    run = Run.of(pair, UNEVEN)
    if pair.head == "fpn":  # padded in both
        assert run.images.tensor.shape[2:] == EVEN
        return
    padded = torch.nn.functional.pad(run.ours["inputs"], (0, 192 - 170, 0, 160 - 150))
    [features], [more] = pair.mmdet.backbone(run.ours["inputs"]), pair.mmdet.backbone(padded)
    assert features.shape[2:] == (10, 11)
    assert more.shape[2:] == (10, 12)
    assert (more[..., :11] - features)[:, :, -1].abs().max() > 0.1 * features.std()


@torch.no_grad()
def test_pyramid_and_rpn_are_equal_to_the_last_bit(run: Run) -> None:
    one, other = run.pair.detectron2, run.pair.mmdet
    maps, expected = other.extract_feat(run.ours["inputs"]), list(one.backbone(run.images.tensor).values())
    assert len(maps) == len(expected) == (5 if run.pair.head == "fpn" else 1)
    logits, deltas = other.rpn_head(maps)
    their_logits, their_deltas = one.proposal_generator.rpn_head(expected)
    anchors = other.rpn_head.prior_generator.grid_priors([level.shape[-2:] for level in maps], device="cpu")
    their_anchors = one.proposal_generator.anchor_generator(expected)
    for level in range(len(maps)):
        assert torch.equal(maps[level], expected[level])
        assert torch.equal(logits[level][0], ratios_first(their_logits[level][0], run.pair.sizes, 3))
        assert torch.equal(deltas[level][0], ratios_first(their_deltas[level][0], run.pair.sizes, 3))
        places = their_anchors[level].tensor.unflatten(0, (-1, 3 * run.pair.sizes))
        in_our_order = ratios_first(places.transpose(0, 1), run.pair.sizes, 3).transpose(0, 1).flatten(0, 1)
        assert torch.equal(anchors[level], in_our_order)


@torch.no_grad()
def test_proposals_agree(run: Run) -> None:
    one, other = run.pair.detectron2, run.pair.mmdet
    [expected], _ = one.proposal_generator(run.images, one.backbone(run.images.tensor))
    [found] = other.rpn_head.predict(other.extract_feat(run.ours["inputs"]), run.samples, rescale=False)
    assert len(found) == len(expected) == one.proposal_generator.post_nms_topk[False]
    assert (found.scores - expected.objectness_logits.sigmoid()).abs().max() < 2e-7
    boxes = expected.proposal_boxes.tensor
    assert apart(boxes, found.bboxes) < NEAR
    # The order may differ where the sigmoid makes equal numbers of different logits.
    assert ((boxes - found.bboxes).abs().amax(1) < NEAR).float().mean() > 0.99


@torch.no_grad()
def test_heads_agree_on_the_same_regions(run: Run) -> None:
    """RoIAlign, level assignment, res5 and its norm are exact; C4's mean over the region is summed in another order."""
    one, other = run.pair.detectron2, run.pair.mmdet
    maps = one.backbone(run.images.tensor)
    [proposals], _ = one.proposal_generator(run.images, maps)
    boxes = proposals.proposal_boxes.tensor
    if run.pair.head == "fpn":
        regions = one.roi_heads.box_pooler([maps[name] for name in ("p2", "p3", "p4", "p5")], [Boxes(boxes)])
        expected = one.roi_heads.box_predictor(one.roi_heads.box_head(regions))
        found = other.roi_head.bbox_roi_extractor(list(maps.values())[:4], bbox2roi([boxes]))
        tolerance = 0.0
    else:
        regions = one.roi_heads._shared_roi_transform([maps["res4"]], [Boxes(boxes)])
        expected = one.roi_heads.box_predictor(regions.mean((2, 3)))
        found = other.roi_head.shared_head(other.roi_head.bbox_roi_extractor([maps["res4"]], bbox2roi([boxes])))
        tolerance = 1e-6  # of the largest
    assert torch.equal(found, regions)
    for output, wanted in zip(other.roi_head.bbox_head(found), expected):
        assert (output - wanted).abs().max() <= tolerance * wanted.abs().max()


@torch.no_grad()
def test_detections_agree(run: Run) -> None:
    [expected] = run.pair.detectron2.inference(run.theirs)
    [found] = run.pair.mmdet.predict(run.ours["inputs"], run.samples)
    expected, found = expected["instances"], found.pred_instances
    assert len(expected) >= 50
    assert len(expected.pred_classes.unique()) >= 10
    assert (found.scores - expected.scores).abs().max() < 1e-5
    # A class apart is further apart than any two boxes; scores are stretched so that a pixel's NEAR is their 1e-5.
    rows = torch.cat(
        [expected.pred_boxes.tensor, 1e4 * expected.pred_classes[:, None], 100 * expected.scores[:, None]], 1
    )
    assert apart(rows, torch.cat([found.bboxes, 1e4 * found.labels[:, None], 100 * found.scores[:, None]], 1)) < NEAR
