"""Every recipe of configs/mmdet beside its sibling in configs/d2, value by value, each read by its own framework.

A value that neither file sets is the framework's default, and is compared all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

import transfer.mmdet.finetune  # noqa: F401  (registers MMDetection's modules and ours)
from transfer.d2.config import read_config, value_of
from transfer.mmdet.config import load_config
from transfer.mmdet.parts import effective

CONFIGS = Path(__file__).parents[3] / "configs"
GPUS = 8  # of the commands in the recipes
PAIRS = {
    **{f"voc_{arch}_c4_24k": f"faster-rcnn_{arch}-c4_voc0712" for arch in ("r18", "r34", "r50", "r101", "x50")},
    **{f"coco_r50_c4_{times}": f"faster-rcnn_r50-c4_{times}_coco" for times in ("1x", "2x")},
    **{f"coco_{arch}_fpn_1x": f"faster-rcnn_{arch}-fpn_1x_coco" for arch in ("r18", "r34", "r50", "r101", "x50")},
    "coco_r50_fpn_2x": "faster-rcnn_r50-fpn_2x_coco",
}
WITHOUT_SIBLING = {"faster-rcnn_swin-t-fpn_1x_coco"}  # Detectron2 v0.6 has no Swin transformer


def test_every_recipe_of_detectron2_has_its_sibling():
    theirs = {path.stem for path in (CONFIGS / "d2").glob("*.yaml") if not path.stem.startswith("base_")}
    assert theirs == set(PAIRS)
    assert {path.stem for path in (CONFIGS / "mmdet").glob("*.py")} == {*PAIRS.values()} | WITHOUT_SIBLING


@cache
def reading_of(name: str) -> Any:
    return read_config(CONFIGS / "d2" / f"{name}.yaml", None, ["MODEL.DEVICE", "cpu"])


@cache
def config_of(name: str) -> Config:
    return load_config(CONFIGS / "mmdet" / f"{PAIRS[name]}.py")


def value(cfg: Config, path: str) -> Any:
    """Return what the entry of a dotted path is built with: what the file says, else the default of the class."""
    node: Any = cfg._cfg_dict
    for name in path.split("."):
        node = node[int(name)] if isinstance(node, (list, tuple)) else effective(node, name)
    return node


# ---- MMDetection's entry (several side by side where Detectron2's key holds a list), Detectron2's key, conversion ----

Row = tuple[str, str, Callable[[Any], Any]]
BACKBONE, HEAD, NECK, RPN = "model.backbone.", "model.roi_head.shared_head.", "model.neck.", "model.rpn_head."
BOX, EXTRACTOR = "model.roi_head.bbox_head.", "model.roi_head.bbox_roi_extractor."
TRAIN_RPN, TRAIN_RCNN = "model.train_cfg.rpn.", "model.train_cfg.rcnn."
SGD, WARMUP, STEPS = "optim_wrapper.", "param_scheduler.0.", "param_scheduler.1."
TRAIN_SET, TEST_SET = "train_dataloader.dataset.", "val_dataloader.dataset."
FILES = {
    "voc_2007_trainval": "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
    "voc_2012_trainval": "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
    "voc_2007_test": "VOCdevkit/VOC2007/ImageSets/Main/test.txt",
    "coco_2017_train": "coco/annotations/instances_train2017.json",
    "coco_2017_val": "coco/annotations/instances_val2017.json",
}


def same(theirs: Any) -> Any:
    return theirs


def times(factor: float) -> Callable[[Any], Any]:
    return lambda theirs: factor * theirs


def named(names: dict[Any, Any]) -> Callable[[Any], Any]:
    """Return the conversion by a table whose keys are Detectron2's values."""
    return lambda theirs: names[theirs]


def deviations(weights: Any) -> list[float]:
    """Return the standard deviations by which MMDetection divides where Detectron2 multiplies by weights."""
    return [1 / weight for weight in weights]


def stages(features: list[str]) -> list[int]:
    return [int(name.removeprefix("res")) - 2 for name in features]


def strides(levels: list[str]) -> list[int]:
    return [2 ** int(level.removeprefix("p")) for level in levels]


def network(part: str) -> list[Row]:
    """Return the rows of a part that the weights fill."""
    return [
        (f"{part}depth", "MODEL.RESNETS.DEPTH", same),
        (f"{part}groups", "MODEL.RESNETS.NUM_GROUPS", same),
        (f"{part}base_width", "MODEL.RESNETS.WIDTH_PER_GROUP", same),
        (f"{part}style", "MODEL.RESNETS.STRIDE_IN_1X1", named({False: "pytorch", True: "caffe"})),
        (f"{part}norm_cfg.type", "MODEL.RESNETS.NORM", same),
    ]


ALWAYS: list[Row] = [
    ("model.type", "MODEL.META_ARCHITECTURE", named({"GeneralizedRCNN": "FasterRCNN"})),
    ("model.roi_head.mask_head", "MODEL.MASK_ON", named({False: None})),
    ("model.data_preprocessor.mean", "MODEL.PIXEL_MEAN", same),
    ("model.data_preprocessor.std", "MODEL.PIXEL_STD", same),
    ("model.data_preprocessor.bgr_to_rgb", "INPUT.FORMAT", named({"RGB": True, "BGR": False})),
    *network(BACKBONE),
    (f"{BACKBONE}frozen_stages", "MODEL.BACKBONE.FREEZE_AT", lambda at: at - 1),  # -1 trains the stem too, 0 does not
    (f"{BACKBONE}out_indices", "MODEL.RESNETS.OUT_FEATURES", stages),
    # Region proposals
    (f"{RPN}anchor_generator.ratios", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", lambda ratios: ratios[0]),
    (f"{RPN}anchor_generator.center_offset", "MODEL.ANCHOR_GENERATOR.OFFSET", same),
    (f"{RPN}num_convs", "MODEL.RPN.CONV_DIMS", len),  # [-1]: one layer of as many channels as its input
    (f"{RPN}bbox_coder.target_stds", "MODEL.RPN.BBOX_REG_WEIGHTS", deviations),
    (f"{RPN}loss_cls.loss_weight", "MODEL.RPN.LOSS_WEIGHT", same),
    (f"{RPN}loss_bbox.type", "MODEL.RPN.SMOOTH_L1_BETA", named({0.0: "L1Loss"})),
    (f"{RPN}loss_bbox.loss_weight", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT", same),
    (f"{TRAIN_RPN}sampler.num", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", same),
    (f"{TRAIN_RPN}sampler.pos_fraction", "MODEL.RPN.POSITIVE_FRACTION", same),
    (f"{TRAIN_RPN}assigner.neg_iou_thr, {TRAIN_RPN}assigner.pos_iou_thr", "MODEL.RPN.IOU_THRESHOLDS", same),
    (f"{TRAIN_RPN}allowed_border", "MODEL.RPN.BOUNDARY_THRESH", same),
    ("model.train_cfg.rpn_proposal.nms_pre", "MODEL.RPN.PRE_NMS_TOPK_TRAIN", same),
    ("model.train_cfg.rpn_proposal.max_per_img", "MODEL.RPN.POST_NMS_TOPK_TRAIN", same),
    ("model.test_cfg.rpn.nms_pre", "MODEL.RPN.PRE_NMS_TOPK_TEST", same),
    ("model.test_cfg.rpn.max_per_img", "MODEL.RPN.POST_NMS_TOPK_TEST", same),
    *(
        row
        for cfg in ("train_cfg.rpn_proposal", "test_cfg.rpn")
        for row in (
            (f"model.{cfg}.nms.iou_threshold", "MODEL.RPN.NMS_THRESH", same),
            (f"model.{cfg}.min_bbox_size", "MODEL.PROPOSAL_GENERATOR.MIN_SIZE", same),
        )
    ),
    # Regions
    (f"{BOX}num_classes", "MODEL.ROI_HEADS.NUM_CLASSES", same),
    (f"{BOX}bbox_coder.target_stds", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", deviations),
    (f"{BOX}reg_class_agnostic", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", same),
    (f"{BOX}loss_bbox.type", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", named({0.0: "L1Loss"})),
    (f"{BOX}loss_bbox.loss_weight", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", same),
    (f"{EXTRACTOR}roi_layer.output_size", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", same),
    (f"{EXTRACTOR}roi_layer.sampling_ratio", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", same),
    (f"{EXTRACTOR}roi_layer.type", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", named({"ROIAlignV2": "RoIAlign"})),
    (f"{TRAIN_RCNN}sampler.num", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", same),
    (f"{TRAIN_RCNN}sampler.pos_fraction", "MODEL.ROI_HEADS.POSITIVE_FRACTION", same),
    (f"{TRAIN_RCNN}sampler.add_gt_as_proposals", "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", same),
    (
        f"{TRAIN_RCNN}assigner.neg_iou_thr, {TRAIN_RCNN}assigner.pos_iou_thr",
        "MODEL.ROI_HEADS.IOU_THRESHOLDS",
        lambda thresholds: 2 * thresholds,  # none is ignored
    ),
    ("model.test_cfg.rcnn.score_thr", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", same),
    ("model.test_cfg.rcnn.nms.iou_threshold", "MODEL.ROI_HEADS.NMS_THRESH_TEST", same),
    ("model.test_cfg.rcnn.max_per_img", "TEST.DETECTIONS_PER_IMAGE", same),
    # Pictures
    ("train_dataloader.dataset", "DATASETS.TRAIN", lambda names: [FILES[name] for name in names]),
    ("val_dataloader.dataset", "DATASETS.TEST", lambda names: [FILES[name] for name in names]),
    ("val_evaluator.type", "DATASETS.TEST", lambda names: "VocBoxAP" if "voc" in names[0] else "CocoBoxAP"),
    ("flip.direction", "INPUT.RANDOM_FLIP", same),
    ("scales.shorter", "INPUT.MIN_SIZE_TRAIN", same),
    ("scales.longer", "INPUT.MAX_SIZE_TRAIN", lambda longest: [longest]),
    ("scales.type", "INPUT.MIN_SIZE_TRAIN_SAMPLING", named({"choice": "RandomChoiceResize"})),
    ("scale.shorter", "INPUT.MIN_SIZE_TEST", same),
    ("scale.longer", "INPUT.MAX_SIZE_TEST", same),
    ("train_dataloader.filter_cfg", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", lambda yes: {"filter_empty_gt": yes}),
    ("train_cfg.type", "DATALOADER.ASPECT_RATIO_GROUPING", named({True: "ResumableLoop"})),
    # Optimiser and schedule
    ("auto_scale_lr.base_batch_size", "SOLVER.IMS_PER_BATCH", same),
    ("train_dataloader.batch_size", "SOLVER.IMS_PER_BATCH", times(1 / GPUS)),
    (f"{SGD}optimizer.type", "SOLVER.OPTIMIZER", same),
    (f"{SGD}optimizer.lr", "SOLVER.BASE_LR", same),
    (f"{SGD}optimizer.momentum", "SOLVER.MOMENTUM", same),
    (f"{SGD}optimizer.nesterov", "SOLVER.NESTEROV", same),
    (f"{SGD}optimizer.weight_decay", "SOLVER.WEIGHT_DECAY", same),
    (f"{SGD}paramwise_cfg.norm_decay_mult", "SOLVER.WEIGHT_DECAY_NORM", times(1 / 1e-4)),
    (f"{SGD}paramwise_cfg.bias_decay_mult", "SOLVER.WEIGHT_DECAY_BIAS", same),  # None: as any other parameter's
    (f"{SGD}paramwise_cfg.bias_lr_mult", "SOLVER.BIAS_LR_FACTOR", named({1.0: None})),
    (f"{SGD}clip_grad", "SOLVER.CLIP_GRADIENTS.ENABLED", named({False: None})),
    (f"{SGD}type", "SOLVER.AMP.ENABLED", named({False: "OptimWrapper"})),
    (f"{WARMUP}type", "SOLVER.WARMUP_METHOD", named({"linear": "LinearLR"})),
    (f"{WARMUP}start_factor", "SOLVER.WARMUP_FACTOR", same),
    (f"{WARMUP}end", "SOLVER.WARMUP_ITERS", lambda iterations: iterations + 1),
    (f"{STEPS}type", "SOLVER.LR_SCHEDULER_NAME", named({"WarmupMultiStepLR": "MultiStepLR"})),
    (f"{STEPS}milestones", "SOLVER.STEPS", same),
    (f"{STEPS}gamma", "SOLVER.GAMMA", same),
    ("train_cfg.max_iters", "SOLVER.MAX_ITER", same),
    ("train_cfg.val_interval - train_cfg.max_iters", "TEST.EVAL_PERIOD", same),  # 0: at the end alone
    ("tta_model", "TEST.AUG.ENABLED", named({False: None})),
]

C4_ONLY: list[Row] = [
    *network(HEAD),
    (f"{HEAD}type", "MODEL.ROI_HEADS.NAME", named({"Res5ROIHeadsExtraNorm": "ResLayerExtraNorm"})),
    (f"{HEAD}dilation", "MODEL.RESNETS.RES5_DILATION", same),
    ("anchors", "MODEL.ANCHOR_GENERATOR.SIZES", same),
    (f"{RPN}in_channels, {RPN}feat_channels, {EXTRACTOR}out_channels", "MODEL.RESNETS.RES2_OUT_CHANNELS",
     lambda channels: 3 * [4 * channels]),
    (f"{BOX}in_channels", "MODEL.RESNETS.RES2_OUT_CHANNELS", times(8)),
    (f"{BOX}roi_feat_size", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", times(1 / 2)),
]  # fmt: skip

FPN_ONLY: list[Row] = [
    ("model.roi_head.type", "MODEL.ROI_HEADS.NAME", named({"StandardROIHeads": "StandardRoIHead"})),
    (f"{NECK}type", "MODEL.BACKBONE.NAME", named({"build_resnet_fpn_backbone": "FPN"})),
    (f"{NECK}in_channels", "MODEL.RESNETS.RES2_OUT_CHANNELS", lambda channels: [channels * 2**n for n in range(4)]),
    (f"{BACKBONE}out_indices", "MODEL.FPN.IN_FEATURES", stages),
    (f"{NECK}norm_cfg.type", "MODEL.FPN.NORM", same),
    (", ".join([f"{NECK}out_channels", f"{RPN}in_channels", f"{RPN}feat_channels", f"{EXTRACTOR}out_channels",
                f"{BOX}in_channels"]), "MODEL.FPN.OUT_CHANNELS", lambda channels: 5 * [channels]),
    (f"{NECK}num_outs", "MODEL.RPN.IN_FEATURES", len),
    (f"{RPN}anchor_generator.strides", "MODEL.RPN.IN_FEATURES", strides),
    ("anchors", "MODEL.ANCHOR_GENERATOR.SIZES", same),
    (f"{EXTRACTOR}featmap_strides", "MODEL.ROI_HEADS.IN_FEATURES", strides),
    (f"{BOX}type", "MODEL.ROI_BOX_HEAD.NUM_FC", named({2: "Shared2FCBBoxHead"})),
    (f"{BOX}type", "MODEL.ROI_BOX_HEAD.NAME", named({"FastRCNNConvFCHead": "Shared2FCBBoxHead"})),
    (f"{BOX}fc_out_channels", "MODEL.ROI_BOX_HEAD.FC_DIM", same),
    (f"{BOX}roi_feat_size", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", same),
]  # fmt: skip

CANNOT_AGREE = {  # what a recipe of Detectron2 sets and MMDetection has nothing for
    "TEST.PRECISE_BN.ENABLED": "there is no PreciseBN: the test uses the moving averages of the training",
}
OF_ANOTHER_DETECTOR = {  # what the recipes set for `MODEL.MASK_ON True`, and the format of the file
    "MODEL.ROI_MASK_HEAD.NAME",
    "MODEL.ROI_MASK_HEAD.NUM_CONV",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION",
    "VERSION",
}


def derived(cfg: Config) -> dict[str, Any]:
    """Return the entries that MMDetection writes in another form than Detectron2, by the names of the table."""
    anchors = cfg.model.rpn_head.anchor_generator
    sets = cfg.train_dataloader.dataset.get("datasets", [cfg.train_dataloader.dataset])
    [pipeline] = {str(part.pipeline): part.pipeline for part in sets}.values()
    [resize] = [step for step in pipeline if "Resize" in step.type]
    [flip] = [step for step in pipeline if "Flip" in step.type]
    [once] = [step for step in cfg.val_dataloader.dataset.pipeline if "Resize" in step.type]
    assert flip.prob == 0.5
    assert resize.keep_ratio
    assert once.keep_ratio
    [filtered] = {str(part.filter_cfg): part.filter_cfg for part in sets}.values()
    return {
        "anchors": [[scale * stride for scale in anchors.scales] for stride in anchors.strides],
        "train_dataloader.dataset": [part.ann_file for part in sets],
        "val_dataloader.dataset": [cfg.val_dataloader.dataset.ann_file],
        "train_dataloader.filter_cfg": filtered,
        "flip.direction": effective(flip, "direction"),
        "scales.type": resize.type,
        "scales.shorter": [side for _, side in resize.scales],
        "scales.longer": sorted({side for side, _ in resize.scales}),
        "scale.longer": once.scale[0],
        "scale.shorter": once.scale[1],
        "train_cfg.val_interval - train_cfg.max_iters": cfg.train_cfg.val_interval - cfg.train_cfg.max_iters,
        # A ResNet says nothing of groups; in Detectron2 it is one group of 64 channels.
        **{
            f"{part}{key}": found if (found := value(cfg, f"{part}{key}")) and grouped else plain
            for part in (BACKBONE, HEAD)
            for key, plain in (("groups", 1), ("base_width", 64))
            for grouped in [(value(cfg, f"{part}groups") or 1) > 1]
        },
    }


def plain(entry: Any) -> Any:
    """Return tuples as lists, and 1 / 10 as 0.1."""
    if isinstance(entry, (list, tuple)):
        return [plain(one) for one in entry]
    return round(entry, 12) if isinstance(entry, float) else entry


@pytest.mark.parametrize("name", PAIRS)
def test_every_value_is_detectron2s(name):
    reading, cfg = reading_of(name), config_of(name)
    rows = ALWAYS + (C4_ONLY if "_c4_" in name else FPN_ONLY)
    ours = derived(cfg)
    differing = []
    for paths, key, convert in rows:
        found = [ours[path] if path in ours else value(cfg, path) for path in paths.split(", ")]
        wanted, found = plain(convert(value_of(reading.cfg, key))), plain(found if ", " in paths else found[0])
        if found != wanted:
            differing.append((paths, found, key, wanted))
    assert not differing
    compared = {key for _, key, _ in rows}
    assert set(reading.given) - compared - set(CANNOT_AGREE) - OF_ANOTHER_DETECTOR == {"MODEL.DEVICE"}


def test_there_are_three_schedules():
    """Those that test_recipes_mmdet_run.py compares iteration by iteration."""
    three = ("voc_r50_c4_24k", "coco_r50_fpn_1x", "coco_r50_c4_2x")
    every, compared = ({str(config_of(name).param_scheduler) for name in names} for names in (PAIRS, three))
    assert every == compared


@pytest.mark.parametrize("name", PAIRS)
def test_where_they_cannot_agree(name):
    """Each by its name; docs/mmdetection.md says what follows from it."""
    theirs, ours = reading_of(name).cfg, config_of(name)
    assert [value_of(theirs, key) for key in CANNOT_AGREE] == [True]
    assert "custom_hooks" not in ours
    # Detectron2 has no such bound, and no key for it: an object gets its best anchor however little it overlaps it.
    # With a bound of 0 MMDetection would take all anchors for a box without an area, which overlaps none of them.
    assert ours.model.train_cfg.rpn.assigner.min_pos_iou == 1e-6
    # Detectron2 pads a batch to what its backbone asks for: a pyramid 32, ResNet alone nothing.
    assert ours.model.data_preprocessor.pad_size_divisor == (1 if "_c4_" in name else 32)
