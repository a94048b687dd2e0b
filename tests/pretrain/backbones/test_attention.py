"""The class token's attention against timm's own, where it is not fused."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.backbones import build_backbone
from pretrain.backbones.attention import class_token_row, cls_attention
from pretrain.console import UserError

# Patches are 16 or 14 pixels; both sizes make grids of 2 x 3, and differ from them where they are transposed.
MODELS = {
    "deit": ("deit_tiny_patch16_224", {"img_size": (32, 48)}),
    "distilled": ("deit_tiny_distilled_patch16_224", {"img_size": (32, 48)}),
    "deit3": ("deit3_small_patch16_224", {"img_size": (32, 48)}),
    "registers": ("vit_small_patch14_reg4_dinov2", {"img_size": (28, 42)}),
    "qk_norm": ("vit_tiny_patch16_224", {"img_size": (32, 48), "qk_norm": True}),
    "dynamic": ("vit_tiny_patch16_224", {"img_size": 64, "dynamic_img_size": True}),
}


def _network(key="deit", **settings):
    name, sizes = MODELS[key]
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, depth=2, **sizes, **settings)
    with torch.no_grad():  # so that attention is far from uniform and differs between heads
        network.blocks[-1].attn.qkv.weight.mul_(15)
        network.cls_token.normal_()
    return network


def _images(key="deit", n=3):
    size = (28, 42) if key == "registers" else (32, 48)
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(1))


def _timm_rows(network, images):
    """The first token's attention to all tokens as timm computes it without fusion, (N, tokens)."""
    network = copy.deepcopy(network)
    attention, seen = network.blocks[-1].attn, []
    attention.fused_attn = False
    attention.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
    return seen[0].mean(1)[:, 0]


@pytest.mark.parametrize("key", MODELS)
def test_maps_are_those_of_timm(key):
    network, images = _network(key), _images(key)
    expected = _timm_rows(network, images)
    assert_close(expected.sum(1), torch.ones(3))
    assert expected.std() > 0.01
    with cls_attention(network) as maps:
        network(images)
    assert len(maps) == 1
    assert maps[0].shape == (3, 2, 3)
    assert maps[0].dtype == torch.float32
    assert not maps[0].requires_grad
    assert_close(maps[0], expected[:, network.num_prefix_tokens :].view(3, 2, 3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("key", MODELS)
def test_rows_sum_to_one_before_the_prefix_is_cut(key):
    network, seen = _network(key), []
    network.blocks[-1].attn.qkv.register_forward_hook(lambda _, __, qkv: seen.append(qkv))
    with cls_attention(network) as maps:
        network(_images(key))
    rows = class_token_row(network.blocks[-1].attn, seen[0])
    assert rows.shape == (3, network.num_prefix_tokens + 6)
    assert_close(rows.sum(1), torch.ones(3))
    assert_close(rows[:, : network.num_prefix_tokens].sum(1) + maps[0].sum((1, 2)), torch.ones(3))


def test_output_and_gradients_stay_what_they_were():
    network, images = _network(), _images()
    results = []
    for record in (False, True):
        network.zero_grad()
        if record:
            with cls_attention(network):
                logits = network(images)
        else:
            logits = network(images)
        logits.square().sum().backward()
        results.append([logits.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results))


def test_autocast_rounds_nothing_of_its_own():
    network, seen = _network(), []
    network.blocks[-1].attn.qkv.register_forward_hook(lambda _, __, qkv: seen.append(qkv))
    with torch.autocast("cpu", dtype=torch.bfloat16), cls_attention(network) as maps:
        network(_images())
    assert seen[0].dtype == torch.bfloat16
    query, key, _ = seen[0].double().view(3, 7, 3, 3, 64).permute(2, 0, 3, 1, 4)
    expected = (query[:, :, 0, None] @ key.transpose(2, 3) / 8).softmax(3).mean(1)[:, 0, 1:].view(3, 2, 3)
    assert maps[0].dtype == torch.float32
    assert_close(maps[0], expected.float(), atol=1e-6, rtol=0)


def test_each_pass_leaves_a_map_and_nothing_stays_behind():
    network = _network()
    with cls_attention(network) as maps:
        network(_images())
        network(_images(n=1))
    assert [len(entry) for entry in maps] == [3, 1]
    network(_images())
    assert len(maps) == 2
    with pytest.raises(RuntimeError, match="stop"), cls_attention(network):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_checkpointed_blocks_leave_one_map():
    network = _network()
    network.set_grad_checkpointing(True)
    with cls_attention(network) as maps:
        logits = network(_images())
    logits.sum().backward()
    assert len(maps) == 1
    assert_close(maps[0].flatten(1), _timm_rows(network, _images())[:, 1:], atol=1e-6, rtol=0)


# One head, so that what the class token gathers is one row of weights times the values.
OTHERS = {
    "cait": ("cait_xxs24_224", {"img_size": (32, 48)}),
    "xcit": ("xcit_nano_12_p16_224", {}),
    "eva": ("eva02_tiny_patch14_224", {"img_size": (28, 42), "global_pool": "token"}),
    "rope": ("vit_small_patch16_rope_224", {"img_size": (32, 48), "global_pool": "token"}),
    "beit": ("beit_base_patch16_224", {"img_size": (32, 48), "global_pool": "token"}),
}


def _values(attention, tokens):
    """What each token offers, (N, T, C), of the attention's input (N, T, C)."""
    for name in ("v", "v_proj"):
        if isinstance(getattr(attention, name, None), nn.Linear):
            return getattr(attention, name)(tokens)
    bias = getattr(attention, "v_bias", None)
    bias = attention.qkv.bias.chunk(3)[2] if bias is None and attention.qkv.bias is not None else bias
    return F.linear(tokens, attention.qkv.weight.chunk(3)[2], bias)


@pytest.mark.parametrize("key", OTHERS)
def test_other_transformers_gather_by_these_weights(key):
    """In the fused pass, what the class token gathers is the values by the weights that are recorded."""
    name, settings = OTHERS[key]
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, depth=1, num_heads=1, **settings).eval()
    attention = [module for module in network.modules() if hasattr(module, "fused_attn")][-1]
    with torch.no_grad():
        for part in ("q", "q_proj", "qkv"):
            if isinstance(getattr(attention, part, None), nn.Linear):
                getattr(attention, part).weight.mul_(3 if key == "eva" else 20)  # so that attention is far from uniform
    images, seen = _images("registers" if key == "eva" else key), {}
    hooks = [
        attention.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0])),
        attention.proj.register_forward_pre_hook(lambda _, inputs: seen.update(gathered=inputs[0][:, 0])),
    ]
    features = network.forward_features(images)
    for hook in hooks:
        hook.remove()
    with cls_attention(network) as maps:
        assert_close(network.forward_features(images), features, atol=1e-4, rtol=1e-4)
    assert attention.fused_attn
    [found] = maps
    assert found.shape == (3, 2, 3)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.std() > 0.01
    offered = _values(attention, seen["tokens"])
    assert offered.shape[1] == 1 + 6
    own = (1 - found.sum((1, 2)))[:, None]  # the class token gets what the patches do not
    gathered = own * offered[:, 0] + torch.einsum("np,npc->nc", found.flatten(1), offered[:, 1:])
    assert_close(gathered, seen["gathered"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (lambda: build_backbone("resnet18", 5), "'resnet18'"),
        (lambda: build_backbone("cifar_resnet18", 5), "'CifarResNet'"),
        (lambda: timm.create_model("vit_tiny_patch16_224", depth=1, global_pool="avg"), "'vit_tiny_patch16_224'"),
        (lambda: timm.create_model("beit_base_patch16_224", depth=1), "'beit_base_patch16_224'"),  # pools its patches
        (
            lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)),
            "'swin_tiny_patch4_window7_224'",
        ),
        (lambda: timm.create_model("test_vit2"), "'test_vit2'"),
        (lambda: nn.Linear(3, 5), "'Linear'"),
    ],
)
def test_networks_without_such_a_class_token(network, named):
    with pytest.raises(UserError, match=f"backbone {named} has no class token"), cls_attention(network()):
        pass


def test_dropped_patches():
    with pytest.raises(UserError, match="drops patches at random"), cls_attention(_network(patch_drop_rate=0.5)):
        pass
