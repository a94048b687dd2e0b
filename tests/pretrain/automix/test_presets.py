"""The presets: what the authors' code does differently, and the frozen Mix Block of preset 'fast'."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from pretrain.automix import AutoMix, AutoMixSettings, JointAutoMix, MixBlock, save_mix_block
from pretrain.automix.momentum import momentum_at
from pretrain.backbones import BackboneCard, build_backbone, export_backbone, stage_features
from pretrain.console import UserError
from pretrain.training.methods import build_method

N, CLASSES = 4, 5
INDEX_Q, INDEX_K = torch.tensor([1, 2, 3, 0]), torch.tensor([3, 2, 1, 0])


@pytest.fixture
def batch():
    return torch.randn(N, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])


def _automix(**settings):
    torch.manual_seed(0)
    return AutoMix(build_backbone("cifar_resnet20", CLASSES), MixBlock(64), AutoMixSettings(**settings))


def test_openmixup_is_the_authors_imagenet_recipe_and_can_be_changed():
    settings = AutoMixSettings(preset="openmixup")
    assert (settings.heads, settings.lam_margin, settings.mask_ratio_over) == (2, 0.08, "batch")
    assert (settings.gamma_schedule, settings.momentum_hold, settings.momentum_end) == ("cosine", 0.1, 0.99999)
    assert (settings.mix_block_lr, settings.mix_block_min_lr, settings.teacher_statistics) == (0.1, 1e-3, "own")
    cifar = AutoMixSettings(preset="openmixup", momentum_end=0.999999, gamma_schedule="constant")
    assert (cifar.momentum_end, cifar.gamma_schedule, cifar.heads) == (0.999999, "constant", 2)


def test_gamma_schedules():
    gammas = {}
    for schedule in ("linear", "cosine", "constant"):
        automix = _automix(gamma_schedule=schedule, gamma=0.4)
        gammas[schedule] = []
        for step in (0, 25, 50, 100):
            automix.set_progress(step, 100)
            gammas[schedule].append(automix.gamma)
    assert gammas["linear"] == pytest.approx([0.4, 0.3, 0.2, 0.0])
    assert gammas["cosine"] == pytest.approx([0.4, 0.2 * (1 + math.cos(math.pi / 4)), 0.2, 0.0])
    assert gammas["constant"] == [0.4] * 4


def test_momentum_is_held_then_follows_a_cosine():
    at = {p: momentum_at(p, 0.999, 0.99999, hold=0.1) for p in (0.0, 0.1, 0.55, 1.0)}
    assert at[0.0] == at[0.1] == pytest.approx(0.999)
    assert at[0.55] == pytest.approx((0.999 + 0.99999) / 2)  # half of what is left
    assert at[1.0] == pytest.approx(0.99999)


@pytest.mark.parametrize(("lam", "plain"), [(0.08, True), (0.93, True), (0.0801, False), (0.5, False)])
def test_near_the_ends_of_lambda_the_student_gets_plain_mixup(batch, lam, plain):
    automix = _automix(preset="openmixup")
    seen = []
    original = automix.student.forward_mixed
    automix.student.forward_mixed = lambda images: seen.append(images) or original(images)
    images, labels = batch
    automix.training_step(images, labels, lam, 0.5, INDEX_Q, INDEX_K)
    mixup = lam * images + (1 - lam) * images[INDEX_Q]
    assert torch.allclose(seen[0], mixup, atol=1e-6) == plain


def test_two_heads_learn_from_their_own_images(batch):
    automix = _automix(preset="openmixup")
    losses = automix.training_step(*batch, 0.5, 0.5, INDEX_Q, INDEX_K)
    one_hot, mixed = automix.student.network.fc.weight, automix.student.mixed_head.weight
    for loss, own, other in ((losses.ce, one_hot, mixed), (losses.mixed_ce, mixed, one_hot)):
        gradient, none = torch.autograd.grad(loss, [own, other], retain_graph=True, allow_unused=True)
        assert gradient.abs().sum() > 0
        assert none is None
    assert automix.encoders()["teacher"] is automix.teacher.network.network  # the one-hot head is what is exported


def test_two_heads_need_a_linear_head():
    headless = build_backbone("cifar_resnet20", CLASSES)
    headless.fc = torch.nn.Identity()
    with pytest.raises(UserError, match="heads=2 needs a network with a linear head, not Identity"):
        AutoMix(headless, MixBlock(64), AutoMixSettings(heads=2))


def _note_passes(module):
    passes = []
    module.register_forward_hook(lambda *_: passes.append(module))
    return passes


def test_own_statistics_see_the_clean_images_in_every_layer(batch):
    """As in the authors' code; by default the clean pass stops at stage l and the student's statistics are averaged."""
    for statistics, layers in (("own", 3), ("averaged", 2)):
        automix = _automix(teacher_statistics=statistics, feature_layer=2, generation_skip=0.5)
        automix.mix_block = MixBlock(32)
        automix.set_progress(1, 10)  # a step without the teacher's branch: the clean pass is the only one
        done = [_note_passes(getattr(automix.teacher.network, f"layer{layer}")) for layer in (1, 2, 3)]
        automix.training_step(*batch, 0.5, 0.5, INDEX_Q, INDEX_K)
        assert [len(passes) for passes in done] == [1] * layers + [0] * (3 - layers)
        moved = automix.teacher.network.bn1.running_mean.abs().sum() > 0
        assert bool(moved) == (statistics == "own")


def test_generation_is_skipped_on_its_share_of_the_steps(batch):
    automix = _automix(generation_skip=0.2, gamma=1.0)
    skipped = []
    for step in range(20):
        automix.set_progress(step, 20)
        automix.zero_grad()
        losses = automix.training_step(*batch, 0.3, 0.9, INDEX_Q, INDEX_K, backward=torch.Tensor.backward)
        if losses.generation_ce == 0:
            assert all(p.grad is None for p in automix.mix_block.parameters())
            skipped.append(step)
    assert skipped == [4, 9, 14, 19]


@pytest.fixture
def trained(tmp_path):
    """A run's export: a Mix Block and its teacher."""
    torch.manual_seed(1)
    teacher, block = build_backbone("cifar_resnet20", 7), MixBlock(64)
    torch.nn.init.normal_(block.value.weight)
    save_mix_block(block, tmp_path / "mix_block")
    export_backbone(teacher, BackboneCard("cifar_resnet20", tuple("abcdefg"), stem="cifar"), tmp_path / "teacher")
    return tmp_path / "mix_block.safetensors", teacher.eval(), block


def test_fast_reads_the_trained_pair_and_leaves_it_as_it_is(trained, batch):
    path, teacher, block = trained
    settings = AutoMixSettings(preset="fast", trained_mix_block=str(path))
    automix = build_method(settings, build_backbone("resnet10t", CLASSES), CLASSES)  # another network altogether
    automix.train()
    frozen = copy.deepcopy({**automix.mix_block.state_dict(), **automix.feature_network.state_dict()})
    passes = []
    automix.teacher.network.register_forward_hook(lambda *_: passes.append("teacher"))
    automix.student.register_forward_hook(lambda *_: passes.append("student"))
    seen = []
    automix.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images, labels = batch
    swap = torch.tensor([1, 0])
    losses = automix.training_step(images, labels, lam_q=0.3, index_q=swap, backward=torch.Tensor.backward)
    assert passes == ["student", "student"]  # half the batch clean, half of it mixed; no generation branch
    assert losses.generation_ce == losses.mask_ratio == 0
    assert losses.ce > 0
    assert torch.equal(seen[0], images[:2])
    with torch.no_grad():
        mask = block(stage_features(teacher, images[2:], 3), swap, 0.3, (32, 32))
    assert_close(seen[1], mask * images[2:] + (1 - mask) * images[2:][swap])

    trainable = [p for group in automix.parameter_groups() for p in group["params"]]
    torch.optim.SGD(trainable, lr=0.1).step()
    automix.after_step()
    after = {**automix.mix_block.state_dict(), **automix.feature_network.state_dict()}
    assert all(torch.equal(value, frozen[name]) for name, value in after.items())
    assert {id(p) for p in trainable} == {id(p) for p in automix.student.parameters()}


def test_fast_with_odd_batches_and_one_image(trained, batch):
    path, *_ = trained
    settings = AutoMixSettings(preset="fast", trained_mix_block=str(path))
    automix = build_method(settings, build_backbone("cifar_resnet20", CLASSES), CLASSES).train()
    images, labels = batch
    assert torch.isfinite(automix.training_step(images[:3], labels[:3], backward=torch.Tensor.backward).total)
    with pytest.raises(ValueError, match="a batch of one image cannot be split"):
        automix.training_step(images[:1], labels[:1])


def test_fast_needs_the_pair(trained, tmp_path):
    path, *_ = trained
    network = build_backbone("resnet10t", CLASSES)
    with pytest.raises(ValidationError, match="preset 'fast' needs trained_mix_block"):
        AutoMixSettings(preset="fast")
    settings = AutoMixSettings(preset="fast", trained_mix_block=str(path), feature_layer=2)
    with pytest.raises(UserError, match="it reads 64 channels and stage 2 of the teacher beside it has 32"):
        build_method(settings, network, CLASSES)
    (tmp_path / "teacher.json").unlink()
    with pytest.raises(UserError, match=r"teacher\.json: no such file"):
        build_method(AutoMixSettings(preset="fast", trained_mix_block=str(path)), network, CLASSES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, r"alpha is 0, but Beta\(alpha, alpha\) needs a positive one"),
        ({"trained_mix_block": "x", "momentum": None}, "needs the momentum pipeline"),
        ({"trained_mix_block": "x", "teacher_statistics": "own"}, "the teacher makes no passes"),
        ({"generation_skip": 1.0}, "parts of the steps"),
        ({"split_batch": True}, "split_batch is for a trained_mix_block"),
        ({"preset": "openmixap"}, "preset"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValidationError, match=message):
        AutoMixSettings(**settings)


def test_joint_training_takes_two_heads_too(batch):
    torch.manual_seed(0)
    settings = AutoMixSettings(heads=2, momentum=None)
    joint = JointAutoMix(build_backbone("cifar_resnet20", CLASSES), MixBlock(64), settings)
    assert torch.isfinite(joint.training_step(*batch, backward=torch.Tensor.backward).total)
