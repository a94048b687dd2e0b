"""TransMix: attention that is given, then attention that a network gives."""

import copy
from contextlib import contextmanager

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.backbones import build_backbone
from pretrain.backbones.attention import cls_attention
from pretrain.console import UserError
from pretrain.mixups import MixContext
from pretrain.mixups.cutmix import BoxDraw, CutMix, box
from pretrain.mixups.transmix import TransMix, refine

SIZE, GRID = (32, 48), (4, 6)  # patches of 8 x 8
CONTEXT = MixContext(attention=cls_attention)


def _batch(n=5, classes=5, size=SIZE):
    images = torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(0))
    return images, F.one_hot(torch.arange(n) % classes, classes).float()


def _cut(draw, n=5):
    """The batch of a draw, and for each patch whether its first pixel shows the partner, from the box itself."""
    result = TransMix().apply(*_batch(n), draw, CONTEXT)
    top, left, bottom, right = box(SIZE, draw.lam, draw.centre)
    pasted = torch.zeros(GRID)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            pasted[row, column] = float(top <= 8 * row < bottom and left <= 8 * column < right)
    return result, pasted, (bottom - top) * (right - left) / (SIZE[0] * SIZE[1])


# A quarter of the image, 16 x 24 pixels from (8, 8): whole patches.
ALIGNED = BoxDraw(0.75, torch.tensor([1, 2, 3, 4, 0]), (0.5, 20 / 48))
DRAWS = [TransMix().sample(5, SIZE, torch.Generator().manual_seed(seed)) for seed in range(12)]


def test_uniform_attention_gives_the_area():
    result, pasted, area = _cut(ALIGNED)
    assert area == 0.25
    assert pasted.sum() == 6  # of 24
    refined = refine(result, torch.full((5, *GRID), 1 / 30))
    assert_close(refined.lam, torch.full((5,), 0.75))
    assert_close(refined.soft_targets, result.soft_targets)


@pytest.mark.parametrize("draw", [ALIGNED, *DRAWS])
def test_attention_of_random_size_by_the_definition(draw):
    result, pasted, area = _cut(draw)
    attention = torch.rand(5, *GRID, generator=torch.Generator().manual_seed(1)) / 24
    refined = refine(result, attention)
    _, targets = _batch()
    for i in range(5):
        lam_b = area / 2 + float((attention[i] * pasted).sum() / (2 * attention[i].sum()))
        assert refined.lam[i].item() == pytest.approx(1 - lam_b, abs=1e-6)
        label = (1 - lam_b) * targets[i] + lam_b * targets[draw.index[i]]
        assert_close(refined.soft_targets[i], label, atol=1e-6, rtol=0)
    assert_close(refined.weights @ targets, refined.soft_targets)
    assert_close(refined.soft_targets.sum(1), torch.ones(5))


def test_all_attention_inside_or_outside_the_box():
    result, pasted, area = _cut(ALIGNED)
    attention = torch.stack([pasted, 1 - pasted, pasted, 1 - pasted, pasted])
    inside, outside = 1 - (area / 2 + 0.5), 1 - area / 2
    assert_close(refine(result, attention).lam, torch.tensor([inside, outside, inside, outside, inside]))


def test_no_attention_on_any_patch_leaves_the_area():
    result, *_ = _cut(ALIGNED)
    assert_close(refine(result, torch.zeros(5, *GRID)).lam, torch.full((5,), 0.75))


@pytest.mark.parametrize(("n", "size"), [(1, (32, 32)), (5, (32, 48)), (4, (33, 47))])
def test_images_and_first_labels_are_those_of_cutmix(n, size):
    images, targets = _batch(n, size=size)
    before = images.clone(), targets.clone()
    for seed in range(5):
        ours = TransMix(0.7)(images, targets, CONTEXT, torch.Generator().manual_seed(seed))
        cut = CutMix(0.7)(images, targets, generator=torch.Generator().manual_seed(seed))
        for field in ("images", "lam", "index", "mask", "soft_targets"):
            assert torch.equal(getattr(ours, field), getattr(cut, field))
        refined = refine(ours, torch.rand(n, *GRID))
        assert refined.lam.shape == (n,)
        assert torch.equal(refined.images, cut.images)
        assert_close(refined.soft_targets.sum(1), torch.ones(n))
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])


def _network():
    torch.manual_seed(0)
    network = timm.create_model("deit_tiny_patch16_224", img_size=SIZE, num_classes=5, depth=2)
    with torch.no_grad():
        network.blocks[-1].attn.qkv.weight.mul_(15)  # so that attention is far from uniform
        network.head.weight.mul_(20)
    return network


def test_loss_is_that_of_the_labels_refined_by_the_pass():
    network, criterion = _network(), nn.CrossEntropyLoss()
    result = TransMix()(*_batch(), CONTEXT, torch.Generator().manual_seed(3))
    unfused, plain, seen = copy.deepcopy(network), copy.deepcopy(network), []
    unfused.blocks[-1].attn.fused_attn = False
    unfused.blocks[-1].attn.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    unfused(result.images)
    labels = refine(result, seen[0].mean(1)[:, 0, 1:].view(5, 2, 3)).soft_targets
    assert (labels - result.soft_targets).abs().max() > 0.01
    expected, loss = criterion(plain(result.images), labels), result.loss(network, criterion)
    assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    expected.backward()
    loss.backward()
    for ours, theirs in zip(network.parameters(), plain.parameters()):
        assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)  # the label is a constant of the step


def test_labels_stay_float32_under_autocast():
    images, targets = _batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = TransMix()(images.bfloat16(), targets, CONTEXT, torch.Generator().manual_seed(3))
        labels = []
        result.loss(_network(), lambda logits, soft: labels.append(soft) or logits.sum())
    assert labels[0].dtype == torch.float32
    assert_close(labels[0].sum(1), torch.ones(5))


def test_any_attention_will_do():
    @contextmanager
    def on_the_first_patch(model):
        yield [F.one_hot(torch.zeros(5, dtype=torch.int64), 24).view(5, *GRID).float()]

    images, targets = _batch()
    result = TransMix().apply(images, targets, ALIGNED, MixContext(attention=on_the_first_patch))
    labels = []
    result.loss(_network(), lambda logits, soft: labels.append(soft) or logits.sum())
    assert_close(labels[0], 0.875 * targets + 0.125 * targets[ALIGNED.index])


def test_compiled_network():
    eager, compiled = _network(), _network()
    torch._dynamo.reset()
    compiled.compile(backend="eager")
    images, targets = _batch()
    for step in range(12):  # more than torch.compile would compile anew
        if step % 5 == 1:
            with torch.no_grad():
                compiled.eval()(images)
            compiled.train()
        result = TransMix()(images + step, targets, CONTEXT, torch.Generator().manual_seed(step))
        losses = [result.loss(network, nn.CrossEntropyLoss()) for network in (eager, compiled)]
        assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)


def test_compiled_network_that_cannot_be_read_any_more():
    network = _network()
    torch._dynamo.reset()
    network.compile(backend="eager")
    images, targets = _batch()
    network(images)
    result = TransMix()(images, targets, CONTEXT, torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="0 attention maps"):
        result.loss(network, nn.CrossEntropyLoss())


def test_cnn():
    result = TransMix()(*_batch(), CONTEXT)
    with pytest.raises(UserError, match="'resnet18' has no class token"):
        result.loss(build_backbone("resnet18", 5), nn.CrossEntropyLoss())


def test_same_generator_same_mix():
    first, second = (TransMix()(*_batch(), CONTEXT, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.soft_targets, second.soft_targets)


def test_without_a_context():
    with pytest.raises(ValueError, match="transmix: the context has no attention"):
        TransMix()(*_batch())


def test_bad_alpha():
    with pytest.raises(ValueError, match="transmix: alpha has to be positive, not 0"):
        mixups.build("transmix", alpha=0.0)
