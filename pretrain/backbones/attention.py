"""The attention of a vision transformer's class token, read off a forward pass that goes on as it would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from pretrain.console import UserError


@contextmanager
def cls_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """Record what the class token looks at in the last block, for every forward pass within the context.

    timm's attention is fused and never holds the weights. In ViT and DeiT the class token's row is computed once more,
    from the queries and keys of the pass, which changes nothing. Other networks have rotations or biases of their own
    in between: their last block runs timm's plain attention meanwhile, the same up to rounding.

    Args:
        model: A vision transformer of timm that classifies by its class token, of any image size: ViT, DeiT, DeiT III,
            distilled DeiT, with register tokens or without; CaiT, XCiT; BEiT, EVA and rotary ViTs built with
            `global_pool="token"`.

    Yields:
        A list, to which each pass appends (N, h, w) float32 without gradient: the mean over the heads of the softmax
        over all tokens (before dropout), at the h x w patches. What goes to other tokens is cut off, so the sum is
        below one.

    Raises:
        UserError: The network has no such class token, or drops patches at random.
    """
    network = _class_token_network(model)
    attention = _last_attention(network)
    prefix = getattr(network, "num_prefix_tokens", 1)
    maps: list[Tensor] = []
    grids: list[tuple[int, int]] = []

    def note_grid(patch_embed: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        sides = tuple(inputs[0].shape[-2:])
        grids.append(output[1] if isinstance(output, tuple) else patch_embed.dynamic_feat_size(sides))

    def keep(row: Tensor) -> None:
        maps.append(row[:, prefix:].unflatten(1, grids.pop()))

    def record_qkv(_: nn.Module, __: tuple[Tensor, ...], qkv: Tensor) -> None:
        keep(class_token_row(attention, qkv))

    def record_weights(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        keep(inputs[0][:, :, 0].detach().float().mean(dim=1))

    plain = isinstance(attention, Attention)
    fused = attention.fused_attn
    attention.fused_attn = fused and plain
    hooks = [
        network.patch_embed.register_forward_hook(note_grid),
        attention.qkv.register_forward_hook(record_qkv)
        if plain
        else attention.attn_drop.register_forward_pre_hook(record_weights),
    ]
    try:
        yield maps
    finally:
        attention.fused_attn = fused
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def class_token_row(attention: Any, qkv: Tensor) -> Tensor:
    """Return the first token's attention to all tokens, the mean over the heads: (N, tokens) float32, rows sum to one.

    Args:
        attention: timm's `Attention`.
        qkv: (N, tokens, 3 * heads * head width), what its layer `qkv` gave.
    """
    query, key, _ = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query[:, :, :1]), attention.k_norm(key)
    with torch.autocast(qkv.device.type, enabled=False):  # else the product would be rounded to half precision
        scores = attention.scale * query.float() @ key.float().transpose(2, 3)
    return scores.softmax(dim=3).mean(dim=1).squeeze(1)


def _last_attention(network: Any) -> Any:
    """Return the attention in which the class token gathers last: of a class-attention block where there are such."""
    for name in ("blocks_token_only", "cls_attn_blocks", "blocks"):  # CaiT, XCiT, others
        blocks = getattr(network, name, None)
        if isinstance(blocks, nn.Sequential | nn.ModuleList):
            return getattr(blocks[-1], "attn", None)
    return None


def _class_token_network(model: nn.Module) -> Any:
    """Return the model, once it is known that its class token's attention can be read and means something."""
    network: Any = model
    known = (
        getattr(network, "cls_token", None) is not None
        and getattr(network, "global_pool", None) == "token"  # else nothing trains where the class token looks
        and hasattr(_last_attention(network), "attn_drop")
        and hasattr(_last_attention(network), "fused_attn")
    )
    name = getattr(network, "default_cfg", {}).get("architecture", type(model).__name__)
    if not known:
        raise UserError(
            f"backbone '{name}' has no class token whose attention can be read; take a vision transformer that "
            "classifies by its class token, such as deit_small_patch16_224"
        )
    if not isinstance(getattr(network, "patch_drop", None), nn.Identity | None):
        raise UserError(f"backbone '{name}' drops patches at random; where its class token looks needs them all")
    return network
