"""Our recipes for Detectron2 and for MMDetection say the same wherever both frameworks have the setting."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detector_pairs import Pair, detectron2_config, fresh_pair, mmdet_config
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.solver import build_lr_scheduler, build_optimizer
from head_names import mmdet_name
from mmdet.datasets import CocoDataset, VOCDataset
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from transfer.datasets import VOC_CLASSES
from transfer.names import framework_names


@pytest.fixture(scope="module", params=["fpn", "c4"])
def fresh(request: pytest.FixtureRequest) -> Pair:
    return fresh_pair("resnet18", request.param)


@pytest.mark.parametrize("head", ["fpn", "c4"])
def test_the_recipes_say_the_same(head: str) -> None:
    theirs, ours = detectron2_config("resnet50", head), mmdet_config("resnet50", head)
    rpn, roi, box = theirs.MODEL.RPN, theirs.MODEL.ROI_HEADS, theirs.MODEL.ROI_BOX_HEAD
    model, train, test = ours.model, ours.model.train_cfg, ours.model.test_cfg
    pooler = model.roi_head.bbox_roi_extractor.roi_layer
    same = {
        "regions of the RPN in training": (
            (rpn.PRE_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TRAIN, rpn.NMS_THRESH, theirs.MODEL.PROPOSAL_GENERATOR.MIN_SIZE),
            proposals(train.rpn_proposal),
        ),
        "regions of the RPN in the test": (
            (rpn.PRE_NMS_TOPK_TEST, rpn.POST_NMS_TOPK_TEST, rpn.NMS_THRESH, theirs.MODEL.PROPOSAL_GENERATOR.MIN_SIZE),
            proposals(test.rpn),
        ),
        "anchors sampled": ((rpn.BATCH_SIZE_PER_IMAGE, rpn.POSITIVE_FRACTION), sampled(train.rpn.sampler)),
        "anchors beyond the border": (rpn.BOUNDARY_THRESH, train.rpn.allowed_border),
        "anchors matched": (list(rpn.IOU_THRESHOLDS), thresholds(train.rpn.assigner)),
        "deltas of the RPN": (list(rpn.BBOX_REG_WEIGHTS), weights(model.rpn_head.bbox_coder)),
        "loss of the RPN": ((rpn.BBOX_REG_LOSS_TYPE, rpn.SMOOTH_L1_BETA), loss(model.rpn_head.loss_bbox)),
        "regions sampled": ((roi.BATCH_SIZE_PER_IMAGE, roi.POSITIVE_FRACTION), sampled(train.rcnn.sampler)),
        "objects among them": (roi.PROPOSAL_APPEND_GT, train.rcnn.sampler.add_gt_as_proposals),
        "regions matched": (2 * list(roi.IOU_THRESHOLDS), thresholds(train.rcnn.assigner)),
        "deltas of the head": (list(box.BBOX_REG_WEIGHTS), weights(model.roi_head.bbox_head.bbox_coder)),
        "loss of the head": ((box.BBOX_REG_LOSS_TYPE, box.SMOOTH_L1_BETA), loss(model.roi_head.bbox_head.loss_bbox)),
        "boxes for each class": (not box.CLS_AGNOSTIC_BBOX_REG, not model.roi_head.bbox_head.reg_class_agnostic),
        "classes": (roi.NUM_CLASSES, model.roi_head.bbox_head.num_classes),
        "RoIAlign": ((box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO), (pooler.output_size, pooler.sampling_ratio)),
        "detections": (
            (roi.SCORE_THRESH_TEST, roi.NMS_THRESH_TEST, theirs.TEST.DETECTIONS_PER_IMAGE),
            (test.rcnn.score_thr, test.rcnn.nms.iou_threshold, test.rcnn.max_per_img),
        ),
        "iterations": (theirs.SOLVER.MAX_ITER, ours.train_cfg.max_iters),
        "pictures of a step": (theirs.SOLVER.IMS_PER_BATCH, ours.auto_scale_lr.base_batch_size),
        "frozen stages": (theirs.MODEL.BACKBONE.FREEZE_AT, model.backbone.frozen_stages + 1),
        "sizes in training": ((theirs.INPUT.MIN_SIZE_TRAIN, theirs.INPUT.MAX_SIZE_TRAIN), sizes(ours)),
    }
    assert {name: pair[0] for name, pair in same.items()} == {name: pair[1] for name, pair in same.items()}


def proposals(cfg: Any) -> Any:
    return cfg.nms_pre, cfg.max_per_img, cfg.nms.iou_threshold, cfg.min_bbox_size


def sampled(cfg: Any) -> Any:
    assert cfg.neg_pos_ub == -1  # no bound on the background that fills up the sample: Detectron2 has none
    return cfg.num, cfg.pos_fraction


def thresholds(cfg: Any) -> Any:
    return [cfg.neg_iou_thr, cfg.pos_iou_thr]


def weights(cfg: Any) -> Any:
    assert cfg.target_means == [0.0] * 4
    return [1 / deviation for deviation in cfg.target_stds]


def loss(cfg: Any) -> Any:
    assert cfg.type == "L1Loss"  # smooth L1 where the smooth part has no width
    return "smooth_l1", 0.0


def sizes(cfg: Any) -> Any:
    dataset = cfg.train_dataloader.dataset
    [resize] = [step for step in dataset.get("datasets", [dataset])[0].pipeline if "Resize" in step.type]
    [longest] = {scale[0] for scale in resize.scales}
    return tuple(scale[1] for scale in resize.scales), longest


def test_classes_have_the_same_numbers() -> None:
    assert VOCDataset.METAINFO["classes"] == tuple(VOC_CLASSES)
    assert CocoDataset.METAINFO["classes"] == tuple(entry["name"] for entry in COCO_CATEGORIES if entry["isthing"])


def test_every_parameter_has_the_same_rate_and_weight_decay(fresh: Pair) -> None:
    theirs = {id(p): group for group in build_optimizer(fresh.configs[0], fresh.detectron2).param_groups
              for p in group["params"]}  # fmt: skip
    wrapper = build_optim_wrapper(fresh.mmdet, fresh.configs[1].optim_wrapper)
    ours = {id(p): group for group in wrapper.optimizer.param_groups for p in group["params"]}
    first, second = (framework_names("resnet18", framework, fresh.head) for framework in ("detectron2", "mmdet"))
    renamed = {first[name]: second[name] for name in first}
    keys, seen = ("lr", "weight_decay", "momentum", "dampening", "nesterov"), set()
    for name, parameter in fresh.detectron2.named_parameters():
        other = fresh.mmdet.get_parameter(renamed.get(name) or mmdet_name(name))
        expected = [theirs[id(parameter)][key] for key in keys]
        assert [ours[id(other)][key] for key in keys] == expected, name
        seen.add(tuple(expected[:2]))
    assert seen == {(0.02, 0.0), (0.02, 1e-4)}
    assert not fresh.configs[0].SOLVER.CLIP_GRADIENTS.ENABLED
    assert "clip_grad" not in fresh.configs[1].optim_wrapper


@pytest.mark.filterwarnings("ignore:Detected call of")  # there is nothing to optimise here
@pytest.mark.parametrize("longer", [0, 1])
@pytest.mark.parametrize("head", ["fpn", "c4"])
def test_learning_rate_of_every_iteration(head: str, longer: int) -> None:
    """MMDetection's warm-up of n iterations has its full rate at n - 1, Detectron2's at n; one longer is the same."""
    theirs, ours = detectron2_config("resnet50", head), mmdet_config("resnet50", head)
    warm = theirs.SOLVER.WARMUP_ITERS
    first, second = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02) for _ in range(2))
    warm_up, steps = ours.param_scheduler
    parts = [{**warm_up, "end": warm + longer}, steps]
    schedulers = [build_lr_scheduler(theirs, first)]
    schedulers += [PARAM_SCHEDULERS.build({**part, "optimizer": second}) for part in parts]
    rates = []
    for _ in range(theirs.SOLVER.MAX_ITER):
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in (first, second)])
        for scheduler in schedulers:
            scheduler.step()
    expected, found = torch.tensor(rates, dtype=torch.float64).T
    assert expected[[0, warm, -1]].tolist() == pytest.approx([2e-5, 0.02, 2e-4])
    ahead = found / expected - 1
    assert ahead[warm:].abs().max() < 1e-6
    if longer:
        assert ahead.abs().max() < 1e-6
    else:
        assert ahead.max() == pytest.approx(1 / (warm - 1), rel=0.01)


def deviation(model: nn.Module, name: str) -> float:
    return model.get_parameter(name).detach().std().item()


def test_initial_weights(fresh: Pair) -> None:
    """He's uniform distribution there, Glorot's here: the same where a layer has as many inputs as outputs."""
    one, other = fresh.detectron2, fresh.mmdet
    normal = {"rpn_head.rpn_conv": 0.01, "rpn_head.rpn_cls": 0.01, "rpn_head.rpn_reg": 0.01}
    normal |= {"roi_head.bbox_head.fc_cls": 0.01, "roi_head.bbox_head.fc_reg": 0.001}
    uniform = {"neck.lateral_convs.0.conv": (64, 256), "neck.lateral_convs.3.conv": (512, 256)}
    uniform |= {"neck.fpn_convs.1.conv": (9 * 256, 9 * 256), "roi_head.bbox_head.shared_fcs.0": (49 * 256, 1024)}
    for name, parameter in one.named_parameters():
        own = mmdet_name(name) or ""
        layer, _, kind = own.rpartition(".")
        if layer in normal and kind == "weight":
            assert deviation(one, name) == pytest.approx(normal[layer], rel=0.1)
            assert deviation(other, own) == pytest.approx(normal[layer], rel=0.1)
        if layer in uniform and kind == "weight":
            inputs, outputs = uniform[layer]
            assert deviation(one, name) == pytest.approx(inputs**-0.5, rel=0.02)
            assert deviation(other, own) == pytest.approx((2 / (inputs + outputs)) ** 0.5, rel=0.02)
        if kind == "bias":
            assert not parameter.any()
            assert not other.get_parameter(own).any()
