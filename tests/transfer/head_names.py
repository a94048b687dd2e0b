"""The names of a detector's own parts, the pyramid and the heads, in Detectron2 and in MMDetection.

The conversion of `transfer` is about the pretrained backbone alone. To compare whole detectors the rest has to be the
same, too; these are the names by which one detector's pyramid and heads are copied into the other's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Detectron2's name, as a pattern, and MMDetection's; what no pattern fits is the pretrained backbone.
RENAMED = (
    (r"backbone\.fpn_lateral(\d)\.norm\.(.+)", r"neck.lateral_convs.\1.bn.\2"),
    (r"backbone\.fpn_lateral(\d)\.(weight|bias)", r"neck.lateral_convs.\1.conv.\2"),
    (r"backbone\.fpn_output(\d)\.norm\.(.+)", r"neck.fpn_convs.\1.bn.\2"),
    (r"backbone\.fpn_output(\d)\.(weight|bias)", r"neck.fpn_convs.\1.conv.\2"),
    (r"proposal_generator\.rpn_head\.conv\.(.+)", r"rpn_head.rpn_conv.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(.+)", r"rpn_head.rpn_cls.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(.+)", r"rpn_head.rpn_reg.\1"),
    (r"roi_heads\.res5\.norm\.(.+)", r"roi_head.shared_head.norm.\1"),
    (r"roi_heads\.box_head\.fc(\d)\.(.+)", r"roi_head.bbox_head.shared_fcs.\1.\2"),
    (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"roi_head.bbox_head.fc_cls.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"roi_head.bbox_head.fc_reg.\1"),
)
FIRST_INDEX = {"lateral_convs": 2, "fpn_convs": 2, "shared_fcs": 1}  # Detectron2 counts p2.. and fc1..


def mmdet_name(name: str) -> str | None:
    """Return MMDetection's name of a tensor of Detectron2's pyramid or heads; None for the pretrained backbone."""
    for pattern, renamed in RENAMED:
        if match := re.fullmatch(pattern, name):
            parts = match.expand(renamed).split(".")
            return ".".join(
                str(int(part) - FIRST_INDEX[before]) if before in FIRST_INDEX else part
                for before, part in zip(["", *parts], parts)
            )
    return None


def mmdet_heads(detector: Mapping[str, Tensor], sizes: int, ratios: int) -> dict[str, Tensor]:
    """Return the pyramid and the heads of a Detectron2 detector under MMDetection's names and in its order of anchors.

    Args:
        detector: The state dict of the whole detector; its backbone, res5 included, is left out.
        sizes: Number of anchor sizes at a place.
        ratios: Number of aspect ratios.
    """
    heads = {}
    for name, tensor in detector.items():
        if (other := mmdet_name(name)) is not None:
            over_anchors = other.startswith(("rpn_head.rpn_cls", "rpn_head.rpn_reg"))
            heads[other] = ratios_first(tensor, sizes, ratios) if over_anchors else tensor
    return heads


def ratios_first(tensor: Tensor, sizes: int, ratios: int) -> Tensor:
    """Reorder the first axis, sizes * ratios * k, from Detectron2's order of anchors to MMDetection's.

    Detectron2 numbers the anchors of a place size by size (`generate_cell_anchors`), MMDetection ratio by ratio
    (`gen_single_level_base_anchors` with scale_major). The k values of an anchor stay together in both.
    """
    return tensor.unflatten(0, (sizes, ratios, -1)).transpose(0, 1).flatten(0, 2)
