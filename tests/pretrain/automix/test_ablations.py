"""Every component can be taken out: the configs of Tables 9, 10 and 11 and of Figures 9 and 10, at reduced size."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.automix import AutoMix, JointAutoMix
from pretrain.automix.step import draw_pairs
from pretrain.backbones import build_backbone, stage_features
from pretrain.training.methods import Classification, build_method
from pretrain.training.settings import load_settings

FOLDER = Path(__file__).parents[3] / "configs/pretrain/ablations"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "base")
N, CLASSES = 6, 5


def _method(name, **changes):
    """Build a config's method round a small network with the CIFAR stem, as the config's own."""
    torch.manual_seed(0)
    changes = {f"method.{key}": value for key, value in changes.items()}
    settings = load_settings(FOLDER / f"{name}.py", changes).method
    return build_method(
        settings, build_backbone("cifar_resnet20" if name != "layer4" else "resnet10t", CLASSES), CLASSES
    )


def _step(method, **given):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(N, 3, 32, 32, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    return method.training_step(images, labels, generator=generator, backward=torch.Tensor.backward, **given), images


def _masks(method, lam):
    """Return the masks of a Mix Block whose weights were made large enough for lambda to show."""
    images = torch.randn(N, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    for parameter in method.mix_block.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    return method.mix_block(method.features(images), torch.arange(N).flip(0), lam, (32, 32))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_ablation_makes_a_step(name):
    method = _method(name)
    before = copy.deepcopy(method.parameter_groups())
    losses, _ = _step(method)
    assert all(torch.isfinite(term) for term in losses._asdict().values() if term is not None)
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=0.1)
    optimizer.step()
    method.after_step()
    for group, old in zip(method.parameter_groups(), before, strict=True):
        assert any(not torch.equal(p, q) for p, q in zip(group["params"], old["params"], strict=True))


def test_random_grids_have_no_mix_block_and_keep_the_pipeline_and_ce():
    method = _method("random_grids")
    assert type(method) is Classification
    assert list(method.encoders()) == ["teacher", "student"]
    losses, _ = _step(method)
    assert losses.ce > 0
    assert losses.mixed_ce > 0
    cells = method.policy(torch.zeros(2, 3, 64, 64), torch.eye(2), generator=torch.Generator().manual_seed(0)).mask
    assert_close(cells, F.interpolate(F.avg_pool2d(cells, 4), scale_factor=4.0))  # 16 x 16 cells of 4 x 4 pixels


def test_cross_attention_alone_knows_nothing_of_lambda():
    method = _method("cross_attention")
    losses, _ = _step(method, lam_k=0.95)  # a fresh mask is near 0.5: l_lambda would be far from zero
    assert losses.mask_ratio == 0
    assert torch.equal(_masks(method, 0.1), _masks(method, 0.9))


def test_lambda_embedding_alone_moves_the_mask_without_l_lambda():
    method = _method("lam_embedding")
    losses, _ = _step(method, lam_k=0.95)
    assert losses.mask_ratio == 0
    assert (_masks(method, 0.1) - _masks(method, 0.9)).abs().max() > 0.01


def test_l_lambda_is_what_the_full_method_adds():
    losses, _ = _step(_method("lam_embedding", gamma=0.1), lam_k=0.95)
    assert float(losses.mask_ratio) == pytest.approx(0.1 * (0.95 - 0.5 - 0.1), abs=1e-3)


def test_without_the_momentum_pipeline_one_loss_trains_both():
    method = _method("no_momentum_pipeline")
    assert type(method) is JointAutoMix
    assert list(method.encoders()) == ["model"]
    assert all(parameter.requires_grad for parameter in method.parameters())
    images, labels = torch.randn(N, 3, 32, 32), torch.arange(N) % CLASSES
    losses = method.training_step(images, labels, lam_q=0.5)  # without l_lambda: the mask's mean is within the margin
    assert losses.ce == losses.mask_ratio == losses.generation_ce == 0
    block, student = (list(module.parameters()) for module in (method.mix_block, method.student))
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(losses.mixed_ce, block, retain_graph=True))
    assert sum(g.abs().sum() for g in torch.autograd.grad(losses.mixed_ce, student)) > 0


def test_momentum_zero_makes_the_teacher_a_copy():
    method = _method("momentum_zero")
    method.set_progress(5, 10)
    _step(method)
    torch.optim.SGD(method.parameter_groups(), lr=0.1).step()
    method.after_step()
    for own, other in zip(method.teacher.network.parameters(), method.student.parameters(), strict=True):
        assert torch.equal(own, other)


def test_without_one_hot_ce_the_student_sees_mixed_images_only():
    method = _method("no_one_hot_ce")
    seen = []
    method.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    losses, images = _step(method)
    assert losses.ce == 0
    assert len(seen) == 1
    assert not torch.equal(seen[0], images)


@pytest.mark.parametrize(("name", "stride"), [("layer1", 1), ("layer2", 2), ("layer4", 32)])
def test_feature_layer(name, stride):
    method = _method(name)
    assert type(method) is AutoMix
    features = method.features(torch.zeros(2, 3, 64, 64))
    assert features.shape[-1] == 64 // stride
    assert features.shape[1] == method.mix_block.settings.in_channels


@pytest.mark.parametrize(("name", "alpha"), [("alpha02", 0.2), ("alpha05", 0.5), ("alpha1", 1.0), ("alpha4", 4.0)])
def test_alpha(name, alpha):
    method, generator = _method(name), torch.Generator().manual_seed(0)
    images = torch.zeros(2, 3, 4, 4)
    draws = [draw_pairs(images, method.settings.alpha, (None,) * 4, generator)[:2] for _ in range(1000)]
    # Beta(a, a) has variance 1 / (4 (2 a + 1)); both lambdas of a step are drawn, each for itself.
    assert torch.tensor(draws).var(dim=0).tolist() == pytest.approx([1 / (4 * (2 * alpha + 1))] * 2, rel=0.1)
    assert abs(torch.corrcoef(torch.tensor(draws).T)[0, 1]) < 0.1


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_policy_alone(name):
    method = _method(name)
    assert list(method.encoders()) == ["model"]
    losses, _ = _step(method)
    assert losses.ce is None


@pytest.mark.parametrize("name", ["mixup_mp", "cutmix_mp"])
def test_policy_with_the_momentum_pipeline(name):
    method = _method(name, momentum=0.75)
    method.set_progress(0, 10)
    teacher = copy.deepcopy(method.average.network)
    losses, _ = _step(method)
    assert losses.ce is None
    torch.optim.SGD(method.parameter_groups(), lr=0.1).step()
    method.after_step()
    for own, old, new in zip(
        method.average.network.state_dict().values(),
        teacher.state_dict().values(),
        method.model.state_dict().values(),
        strict=True,
    ):
        # Batch-norm statistics too: this teacher makes no passes of its own.
        assert_close(own, 0.75 * old + 0.25 * new if old.is_floating_point() else new)


@pytest.mark.parametrize("name", ["mixup_mp_ce", "cutmix_mp_ce"])
def test_policy_with_the_momentum_pipeline_and_ce(name):
    method, reference = _method(name), _method(name)
    losses, images = _step(method)
    assert_close(losses.ce, F.cross_entropy(reference.model(images), torch.tensor([0, 1, 2, 3, 4, 0])))
    assert losses.total == losses.ce + losses.mixed_ce


def test_stage_features_stop_behind_their_layer():
    network = build_backbone("cifar_resnet20", CLASSES)
    network.layer3.register_forward_pre_hook(lambda *_: pytest.fail("layer 3 was computed"))
    stage_features(network, torch.zeros(1, 3, 32, 32), 2)
