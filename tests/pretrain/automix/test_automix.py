"""One step of AutoMix: who gets which gradient, and how the teacher follows."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from pretrain.automix import AutoMix, AutoMixSettings, MixBlock
from pretrain.automix.losses import mask_ratio_loss, mixed_loss
from pretrain.automix.momentum import momentum_at
from pretrain.automix.step import mix
from pretrain.backbones import build_backbone, stage_channels, stage_features

N, CLASSES = 4, 5


@pytest.fixture
def automix():
    torch.manual_seed(0)
    student = build_backbone("resnet10t", CLASSES)
    settings = AutoMixSettings(feature_layer=2, momentum=0.9, gamma=0.5)
    return AutoMix(student, MixBlock(stage_channels(student, 2)), settings)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(N, 3, 32, 48, generator=generator)
    given = {
        "lam_q": 0.3,
        "lam_k": 0.9,
        "index_q": torch.tensor([1, 2, 3, 0]),
        "index_k": torch.tensor([3, 2, 1, 0]),
    }
    return images, torch.arange(N), given


def test_losses_are_those_of_equation_8(automix, batch):
    images, labels, given = batch
    reference = copy.deepcopy(automix)
    losses = automix.training_step(images, labels, **given)

    features = stage_features(reference.teacher.network, images, 2)
    mixed_q = mix(images, given["index_q"], reference.mix_block(features, given["index_q"], 0.3, (32, 48)))
    mask_k = reference.mix_block(features, given["index_k"], 0.9, (32, 48))
    mixed_k = mix(images, given["index_k"], mask_k)
    assert_close(losses.ce, F.cross_entropy(reference.student(images), labels))
    soft = 0.3 * F.one_hot(labels, CLASSES) + 0.7 * F.one_hot(labels[given["index_q"]], CLASSES)
    assert_close(losses.mixed_ce, F.cross_entropy(reference.student(mixed_q), soft))
    soft = 0.9 * F.one_hot(labels, CLASSES) + 0.1 * F.one_hot(labels[given["index_k"]], CLASSES)
    assert_close(losses.generation_ce, F.cross_entropy(reference.teacher.network(mixed_k), soft))
    # A fresh Mix Block gives masks near 0.5, so each sample is off by 0.4 - 0.1 = 0.3.
    assert losses.mask_ratio.item() == pytest.approx(0.5 * (0.9 - mask_k.mean().item() - 0.1), abs=1e-6)
    assert_close(losses.total, sum(losses[:4]))


def test_student_learns_from_classification_and_mix_block_from_generation_alone(automix, batch):
    images, labels, given = batch
    losses = automix.training_step(images, labels, **given)
    student, block = list(automix.student.parameters()), list(automix.mix_block.parameters())
    assert all(not p.requires_grad for p in automix.teacher.parameters())

    classification, generation = losses.ce + losses.mixed_ce, losses.generation_ce + losses.mask_ratio
    assert all(g is None for g in torch.autograd.grad(classification, block, allow_unused=True, retain_graph=True))
    assert all(g is None for g in torch.autograd.grad(generation, student, allow_unused=True, retain_graph=True))
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(generation, block, retain_graph=True))
    assert sum(g.abs().sum() for g in torch.autograd.grad(classification, student)) > 0


def test_teacher_starts_as_the_student_and_follows_by_equation_12(automix):
    pairs = list(zip(automix.teacher.network.parameters(), automix.student.parameters(), strict=True))
    assert all(torch.equal(k, q) for k, q in pairs)
    before = [k.clone() for k, _ in pairs]
    with torch.no_grad():
        for _, q in pairs:
            q.add_(1.0)
    automix.after_step()
    for (k, q), old in zip(pairs, before, strict=True):
        assert_close(k, 0.9 * old + 0.1 * q)


def test_schedules_of_gamma_and_momentum(automix):
    automix.set_progress(25, 100)
    assert automix.gamma == pytest.approx(0.5 * 0.75)  # linear to zero
    assert automix.momentum == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)
    assert momentum_at(0.0) == pytest.approx(0.999)
    assert momentum_at(1.0) == 1.0


def test_same_generator_same_step(automix, batch):
    images, labels, _ = batch
    twin = copy.deepcopy(automix)
    first = automix.training_step(images, labels, generator=torch.Generator().manual_seed(3))
    torch.rand(5)  # the global generator plays no part
    second = twin.training_step(images, labels, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.total, second.total)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_batch_sizes_by_one_backward(automix, n):
    losses = automix.training_step(torch.randn(n, 3, 32, 32), torch.arange(n) % CLASSES)
    losses.total.backward()
    assert torch.isfinite(losses.total)


def test_mask_ratio_is_taken_for_each_sample_not_for_the_batch():
    # Means 0.2 and 0.8 average to lambda = 0.5 and would cost nothing over the batch; each is 0.3 off, 0.2 over.
    mask = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert float(mask_ratio_loss(mask, 0.5, margin=0.1)) == pytest.approx(0.2)


def test_mixed_cross_entropy_equals_soft_targets():
    logits, labels, index = torch.randn(3, CLASSES), torch.tensor([0, 4, 2]), torch.tensor([1, 2, 0])
    soft = 0.25 * F.one_hot(labels, CLASSES) + 0.75 * F.one_hot(labels[index], CLASSES)
    assert_close(mixed_loss(F.cross_entropy, logits, labels, index, 0.25), F.cross_entropy(logits, soft))


def _given_step(automix, batch, backward):
    images, labels, given = batch
    losses = automix.training_step(images, labels, **given, backward=backward)
    if backward is None:
        losses.total.backward()
    return losses, {name: p.grad for name, p in automix.named_parameters() if p.grad is not None}


def test_branch_by_branch_gives_the_same_gradients_and_keeps_no_graph(automix, batch):
    twin = copy.deepcopy(automix)
    whole, gradients = _given_step(automix, batch, None)
    losses, branches = _given_step(twin, batch, torch.Tensor.backward)
    assert all(not term.requires_grad for term in losses)
    assert_close(tuple(losses), tuple(term.detach() for term in whole))
    assert set(branches) == set(gradients)
    for name, gradient in gradients.items():
        assert_close(branches[name], gradient, atol=1e-6, rtol=1e-5)


def test_branch_by_branch_holds_one_branch_at_a_time(automix, batch):
    """Saved bytes at the peak: of all branches in one graph, of each branch, of the student's clean pass alone."""
    alive, peaks = [0], {"whole": 0, "branches": 0}

    class Held:
        def __init__(self, tensor, kind):
            self.tensor, self.bytes = tensor, tensor.numel() * tensor.element_size()
            alive[0] += self.bytes
            peaks[kind] = max(peaks[kind], alive[0])

        def __del__(self):
            alive[0] -= self.bytes

    for kind, backward in (("whole", None), ("branches", torch.Tensor.backward)):
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kind=kind: Held(t, kind), lambda held: held.tensor):
            _given_step(automix, batch, backward)
    assert peaks["branches"] < 0.45 * peaks["whole"]  # three branches of like size


class Synchronisations(TorchDispatchMode):
    """Fails on what makes a host wait for a device: reading a value, sizes that depend on values."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket._qualified_op_name.split("::")[1] not in (
            "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique", "item",
        ), function  # fmt: skip
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("preset", ["paper", "openmixup"])
def test_a_step_reads_nothing_back_from_the_device(batch, preset):
    torch.manual_seed(0)
    automix = AutoMix(build_backbone("resnet10t", CLASSES), MixBlock(256), AutoMixSettings(preset=preset))
    images, labels, _ = batch
    index_q, index_k = torch.tensor([1, 2, 3, 0]), torch.tensor([3, 2, 1, 0])
    optimizer = torch.optim.SGD(automix.parameter_groups(), lr=0.1, momentum=0.9)
    with Synchronisations():
        automix.training_step(images, labels, 0.3, 0.9, index_q, index_k, backward=torch.Tensor.backward)
        optimizer.step()
        automix.after_step()
    with pytest.raises(AssertionError), Synchronisations():
        images.mean().item()


def test_channels_last_changes_nothing_but_rounding(automix, batch):
    twin = copy.deepcopy(automix).to(memory_format=torch.channels_last)
    _, gradients = _given_step(automix, batch, torch.Tensor.backward)
    images, labels, given = batch
    _, others = _given_step(
        twin, (images.contiguous(memory_format=torch.channels_last), labels, given), torch.Tensor.backward
    )
    for name, gradient in gradients.items():
        assert_close(others[name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(automix, batch, dtype):
    """Half precision gives the losses to its own rounding, and every parameter its float32 gradient."""
    twin = copy.deepcopy(automix)
    losses, gradients = _given_step(automix, batch, torch.Tensor.backward)

    def backward(loss):
        with torch.autocast("cpu", enabled=False):
            loss.backward()

    with torch.autocast("cpu", dtype=dtype):
        half, others = _given_step(twin, batch, backward)
    assert_close(torch.stack(tuple(half)).float(), torch.stack(tuple(losses)), atol=0.02, rtol=0.02)
    assert set(others) == set(gradients)
    for name, gradient in others.items():
        assert gradient.dtype == torch.float32
        assert torch.isfinite(gradient).all(), name
    cosine = F.cosine_similarity(*(torch.cat([g[n].flatten() for n in gradients]) for g in (gradients, others)), dim=0)
    assert cosine > 0.99


def test_a_loss_scale_reaches_every_branch_once(automix, batch):
    """float16 training scales each branch's loss; unscaled, the gradients are those without it."""
    twin = copy.deepcopy(automix)
    _, gradients = _given_step(automix, batch, torch.Tensor.backward)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    _given_step(twin, batch, lambda loss: scaler.scale(loss).backward())
    scaler.unscale_(torch.optim.SGD(twin.parameter_groups(), lr=0.1))
    for name, parameter in twin.named_parameters():
        if name in gradients:
            assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-4)


def test_masks_are_float32_under_autocast():
    block = MixBlock(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask = block(torch.full((2, 8, 2, 2), 300.0, dtype=torch.bfloat16), torch.tensor([1, 0]), 0.5, (4, 4))
    assert mask.dtype == torch.float32
    assert torch.isfinite(mask).all()


@pytest.mark.parametrize("preset", ["paper", "openmixup"])
def test_compiled_networks_make_the_same_step(batch, preset):
    torch.manual_seed(0)
    settings = AutoMixSettings(preset=preset, feature_layer=2)
    automix = AutoMix(build_backbone("resnet10t", CLASSES), MixBlock(128), settings)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    twin = copy.deepcopy(automix)
    twin.compile(backend="aot_eager")
    losses, gradients = _given_step(automix, batch, torch.Tensor.backward)
    others, compiled = _given_step(twin, batch, torch.Tensor.backward)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2  # student and teacher were translated
    assert_close(tuple(others), tuple(losses), atol=1e-5, rtol=1e-5)
    assert twin.state_dict().keys() == automix.state_dict().keys()  # and are saved under their own names
    for name, gradient in gradients.items():
        assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-4)


def test_teacher_averages_the_student_s_statistics_and_leaves_its_own_passes_out(automix, batch):
    before = {name: value.clone() for name, value in automix.teacher.network.named_buffers()}
    _given_step(automix, batch, torch.Tensor.backward)
    running = {name: value for name, value in automix.teacher.network.named_buffers() if "running" in name}
    assert running
    assert all(torch.equal(value, before[name]) for name, value in running.items())
    automix.after_step()
    students = dict(automix.student.named_buffers())
    for name, value in running.items():
        assert_close(value, 0.9 * before[name] + 0.1 * students[name])
