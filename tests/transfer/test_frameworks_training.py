"""One training step of Detectron2's and of MMDetection's Faster R-CNN on the same objects: losses and gradients.

Both frameworks draw anchors and regions at random. Here each takes all that it has labelled, so that nothing is left to
chance; what else is drawn and averaged otherwise is in test_frameworks_differ.py.
"""

from __future__ import annotations

from typing import TypeAlias

import pytest
import torch
from detector_pairs import Pair, Truth, build_pair, picture
from detectron2.utils.events import EventStorage
from head_names import mmdet_name, ratios_first
from torch import Tensor

from transfer.names import framework_names

ALL = 100_000  # more than there are
REGIONS = 24
Step: TypeAlias = tuple[Pair, dict[str, Tensor], dict[str, Tensor], float]
TRUTHS = [  # no anchor is the best one of two objects, see test_frameworks_differ.py
    Truth(torch.tensor([[8.0, 12.0, 78.0, 90.0], [80.0, 30.0, 150.0, 120.0]]), torch.tensor([3, 14])),
    Truth(torch.tensor([[30.0, 20.0, 110.0, 115.0]]), torch.tensor([7])),
]


@pytest.fixture(scope="module", params=["fpn", "c4"])
def trained(request: pytest.FixtureRequest) -> Step:
    """Return both detectors with their gradients, both losses by Detectron2's names, and the share of sampled anchors.

    Detectron2 divides the losses of the RPN by the number of anchors that it wanted to sample, MMDetection by those
    that it got. So that the gradients of the sums can be compared, Detectron2's weights make up for that.
    """
    pair = build_pair(
        "resnet18", request.param,
        ["MODEL.RPN.POST_NMS_TOPK_TEST", str(REGIONS), "MODEL.RPN.POST_NMS_TOPK_TRAIN", str(REGIONS)],
        [f"model.test_cfg.rpn.max_per_img={REGIONS}", f"model.train_cfg.rpn_proposal.max_per_img={REGIONS}"],
    )  # fmt: skip
    one, other = pair.detectron2, pair.mmdet
    for sampler in (one.proposal_generator, one.roi_heads):
        sampler.batch_size_per_image, sampler.positive_fraction = ALL, 0.5
    for sampler in (other.rpn_head.sampler, other.roi_head.bbox_sampler):
        sampler.num, sampler.pos_fraction = ALL, 0.5
    theirs, ours = pair.inputs([picture(128, 160), picture(128, 160, seed=1)], TRUTHS)
    one.train()
    other.train()
    with EventStorage() as storage:
        expected = one(theirs)
        sampled = sum(storage.history(f"rpn/num_{kind}_anchors").latest() for kind in ("pos", "neg")) / ALL
    raw = other.loss(ours["inputs"], ours["data_samples"])
    sums = {name: torch.stack(value).sum() if isinstance(value, list) else value for name, value in raw.items()}
    names = {"loss_rpn_loc": "loss_rpn_bbox", "loss_box_reg": "loss_bbox"}
    found = {name: sums[names.get(name, name)] for name in expected}
    torch.stack([value / sampled if "rpn" in name else value for name, value in expected.items()]).sum().backward()
    torch.stack([*found.values()]).sum().backward()
    return pair, expected, found, sampled


def test_losses_are_the_same_but_for_the_number_that_the_rpns_are_divided_by(trained: Step) -> None:
    _, expected, found, sampled = trained
    assert set(expected) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    assert all(value > 0 for value in expected.values())
    for name, value in expected.items():
        wanted = value / sampled if "rpn" in name else value
        assert found[name].item() == pytest.approx(wanted.item(), rel=2e-6)


def test_gradients_of_every_parameter_are_the_same(trained: Step) -> None:
    pair = trained[0]
    first, second = (
        framework_names("resnet18", "detectron2", pair.head),
        framework_names("resnet18", "mmdet", pair.head),
    )
    renamed = {first[name]: second[name] for name in first}
    others = dict(pair.mmdet.named_parameters())
    for name, parameter in pair.detectron2.named_parameters():
        other = renamed.get(name) or mmdet_name(name)
        assert other is not None
        wanted = parameter.grad
        if other.startswith(("rpn_head.rpn_cls", "rpn_head.rpn_reg")):
            wanted = ratios_first(wanted, pair.sizes, 3)
        assert wanted.norm() > 0
        assert (others.pop(other).grad - wanted).norm() < 1e-4 * wanted.norm(), name
    assert not others
