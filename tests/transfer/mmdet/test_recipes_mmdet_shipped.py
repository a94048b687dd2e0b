"""Our R50-C4 recipe is MMDetection's own `faster-rcnn_r50-caffe-c4`, but for what is listed here with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmdet
import pytest
from mmengine.config import Config

import transfer.mmdet.finetune  # noqa: F401  (registers MMDetection's modules and ours)
from transfer.mmdet.config import RUNNER_KEYS, load_config

CONFIGS = Path(__file__).parents[3] / "configs" / "mmdet"
SHIPPED = Path(mmdet.__file__).parent / ".mim" / "configs"
ABSENT = "(absent)"
BACKBONE, HEAD, PREPROCESSOR = "model.backbone.", "model.roi_head.shared_head.", "model.data_preprocessor."
TRAIN, TEST = "train_dataloader.dataset.datasets.", "val_dataloader.dataset."

Difference = dict[str, tuple[Any, Any]]  # {key: MMDetection's value, ours}

# {reason: what differs for it}
DETECTOR: dict[str, Difference] = {
    "torchvision's preprocessing instead of Caffe's, which is BGR without a division": {
        f"{PREPROCESSOR}mean": ([103.53, 116.28, 123.675], [123.675, 116.28, 103.53]),
        f"{PREPROCESSOR}std": ([1.0, 1.0, 1.0], [58.395, 57.12, 57.375]),
        f"{PREPROCESSOR}bgr_to_rgb": (False, True),
    },
    "torchvision's blocks have the stride in the 3x3 convolution": {
        f"{part}style": ("caffe", "pytorch") for part in (BACKBONE, HEAD)
    },
    "every layer is trained, so that features which differ between starts stay comparable": {
        f"{BACKBONE}frozen_stages": (1, -1),
    },
    "every norm is trained, by the statistics of the whole batch": {
        f"{part}{key}": values
        for part in (BACKBONE, HEAD)
        for key, values in {
            "norm_cfg.type": ("BN", "SyncBN"),
            "norm_cfg.requires_grad": (False, True),
            "norm_eval": (True, False),
        }.items()
    },
    "a norm behind stage 4, since no stage 4 of a classifier is followed by one": {
        f"{HEAD}type": ("ResLayer", "ResLayerExtraNorm"),
        f"{HEAD}dilation": (1, ABSENT),  # its default
    },
    "weights come by --weights, where every tensor is accounted for": {
        f"{part}init_cfg.{key}": (value, ABSENT)
        for part in (BACKBONE, HEAD)
        for key, value in {"type": "Pretrained", "checkpoint": "open-mmlab://detectron2/resnet50_caffe"}.items()
    },
    "Detectron2 gives every object its best anchor": {"model.train_cfg.rpn.assigner.min_pos_iou": (0.3, 1e-6)},
    "Detectron2 pads for a pyramid alone": {f"{PREPROCESSOR}pad_size_divisor": (32, 1)},
}
RUN: dict[str, Difference] = {
    "MoCo trains 24,000 iterations where MMDetection trains 18,000": {
        "train_cfg.max_iters": (18000, 24000),
        "param_scheduler.1.end": (18000, 24000),
        "param_scheduler.1.milestones": ([12000, 16000], [18000, 22000]),
    },
    "one evaluation, at the end": {"train_cfg.val_interval": (3000, 24000)},
    "the warm-up ends where Detectron2's does": {"param_scheduler.0.end": (100, 101)},
    "norms have no weight decay in Detectron2": {"optim_wrapper.paramwise_cfg.norm_decay_mult": (ABSENT, 0.0)},
    "a loop that resumes exactly, and orders the pictures by itself": {
        "train_cfg.type": ("IterBasedTrainLoop", "ResumableLoop"),
        "train_dataloader.sampler.type": ("InfiniteSampler", ABSENT),
        "train_dataloader.sampler.shuffle": (True, ABSENT),
        "train_dataloader.batch_sampler.type": ("AspectRatioBatchSampler", ABSENT),
        "train_dataloader.persistent_workers": (True, ABSENT),
        "default_hooks.sampler_seed.type": ("DistSamplerSeedHook", ABSENT),
        "default_hooks.sampler_seed": (ABSENT, None),
    },
    "VOC lies beside COCO below one data root": {
        **{
            f"{TRAIN}{number}.{key}": values
            for number, year in enumerate(("VOC2007", "VOC2012"))
            for key, values in {
                "data_root": ("data/VOCdevkit/", "data/"),
                "ann_file": (f"{year}/ImageSets/Main/trainval.txt", f"VOCdevkit/{year}/ImageSets/Main/trainval.txt"),
                "data_prefix.sub_data_root": (f"{year}/", f"VOCdevkit/{year}/"),
            }.items()
        },
        f"{TEST}data_root": ("data/VOCdevkit/", "data/"),
        f"{TEST}ann_file": ("VOC2007/ImageSets/Main/test.txt", "VOCdevkit/VOC2007/ImageSets/Main/test.txt"),
        f"{TEST}data_prefix.sub_data_root": ("VOC2007/", "VOCdevkit/VOC2007/"),
    },
    "MMDetection's own drops this by its _delete_, and then refuses two years in one data set": {
        "train_dataloader.dataset.ignore_keys": (ABSENT, ["dataset_type"]),
    },
    "Detectron2 leaves no small picture out": {
        f"{TRAIN}{number}.filter_cfg.min_size": (32, ABSENT) for number in (0, 1)
    },
    "Detectron2 resizes by Pillow": {
        f"{place}.backend": (ABSENT, "pillow")
        for place in (f"{TRAIN}0.pipeline.2", f"{TRAIN}1.pipeline.2", f"{TEST}pipeline.1")
    },
    "a damaged file is named": {
        f"{place}pipeline.0.type": ("LoadImageFromFile", "LoadCheckedImage")
        for place in (f"{TRAIN}0.", f"{TRAIN}1.", TEST)
    },
    "files lie on disks": {  # None is the default
        f"{place}{key}": (None, ABSENT)
        for place in (f"{TRAIN}0.", f"{TRAIN}1.", TEST)
        for key in ("backend_args", "pipeline.0.backend_args")
    },
    "AP at ten thresholds beside AP50, by 11 points": {
        "val_evaluator.type": ("VOCMetric", "VocBoxAP"),
        "val_evaluator.metric": ("mAP", ABSENT),
        "val_evaluator.eval_mode": ("11points", ABSENT),  # VocBoxAP has no other
        "data_name": (ABSENT, "VOC 2007 test"),
    },
    "how conveniently it runs, with no effect on what comes out": {
        "train_dataloader.num_workers": (2, 4),
        "default_hooks.checkpoint.interval": (3000, 2000),
        "default_hooks.checkpoint.max_keep_ckpts": (ABSENT, 2),
        "default_hooks.visualization.type": ("DetVisualizationHook", ABSENT),  # --draw
        "env_cfg.dist_cfg.backend": ("nccl", ABSENT),  # transfer.mmdet.launch
        "log_level": ("INFO", ABSENT),
        "load_from": (None, ABSENT),
        "resume": (False, ABSENT),
    },
}
SECOND_EVALUATION = ("test_cfg.", "test_dataloader.", "test_evaluator.")  # MMDetection's test is its val once more


def flat(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value); tuples as lists."""
    if isinstance(node, dict):
        for name, entry in node.items():
            yield from flat(entry, f"{key}.{name}" if key else name)
    elif isinstance(node, (list, tuple)) and any(isinstance(entry, dict) for entry in node):
        for number, entry in enumerate(node):
            yield from flat(entry, f"{key}.{number}")
    else:
        yield key, list(node) if isinstance(node, tuple) else node


def differences(shipped: str, own: str, among: list[str]) -> Difference:
    """Return {key: (MMDetection's value, ours)} where they differ, below the given top-level entries."""
    theirs, ours = (
        dict(flat({name: entry for name, entry in cfg._cfg_dict.to_dict().items() if name in among}))
        for cfg in (Config.fromfile(SHIPPED / shipped), load_config(CONFIGS / own))
    )
    pairs = {key: (theirs.get(key, ABSENT), ours.get(key, ABSENT)) for key in {**theirs, **ours}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def listed(*tables: dict[str, Difference]) -> Difference:
    return {key: pair for table in tables for group in table.values() for key, pair in group.items()}


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)  # the recipes' own is compared


def test_voc():
    found = differences(
        "pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py", "faster-rcnn_r50-c4_voc0712.py", RUNNER_KEYS
    )
    assert {key: pair for key, pair in found.items() if not key.startswith(SECOND_EVALUATION)} == listed(DETECTOR, RUN)
    assert all(ours == ABSENT for key, (_, ours) in found.items() if key.startswith(SECOND_EVALUATION))


def test_the_detector_of_coco():
    found = differences(
        "faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py", "faster-rcnn_r50-c4_1x_coco.py", ["model"]
    )
    assert found == listed(DETECTOR)
