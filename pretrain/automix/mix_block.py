"""The Mix Block: from the feature maps of two images and lambda to a mask for each pixel (Eqs. 4 to 6)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.console import UserError
from pretrain.files import atomic_path, read_json, write_json


@dataclass(frozen=True)
class MixBlockSettings:
    """Arguments of `MixBlock`, as they are kept beside its weights."""

    in_channels: int
    reduction: int = 2
    lam_embedding: bool = True
    upsample: Literal["nearest", "bilinear"] = "nearest"
    scale: bool = True
    norm: Literal["bn"] | None = None


class MixBlock(nn.Module):
    """Lambda-embedded cross-attention between the two images of a pair.

    A position of image i attends over the positions of image j (Eq. 6), and what it finds there says how much of the
    pixel belongs to image j: the form of the authors' code. Eq. 5 writes the value of image i instead; the two differ
    by the name of the mask only, since s_j = 1 - s_i.

    Without a norm, appending lambda as a channel adds a term that is constant over the positions, so one projection
    of the features serves every lambda and every permutation.

    Args:
        in_channels: Channels C of the feature map, without the lambda channel.
        reduction: The query has C / reduction channels.
        lam_embedding: Whether lambda is seen by the block (1 - lambda for the second image of a pair).
        upsample: How the mask goes from feature to image size, "nearest" or "bilinear".
        scale: Whether the attention logits are divided by sqrt(C / reduction).
        norm: "bn" puts a batch norm behind the query, which then has no bias (the authors' half-precision ViT recipes).

    Parameters are `query` and `value`, 1x1 convolutions drawn from N(0, 0.01); the lambda channel is their last input.
    """

    def __init__(
        self,
        in_channels: int,
        reduction: int = 2,
        lam_embedding: bool = True,
        upsample: Literal["nearest", "bilinear"] = "nearest",
        scale: bool = True,
        norm: Literal["bn"] | None = None,
    ) -> None:
        super().__init__()
        self.settings = MixBlockSettings(in_channels, reduction, lam_embedding, upsample, scale, norm)
        inputs, inner = in_channels + int(lam_embedding), in_channels // reduction
        self.query = nn.Conv2d(inputs, inner, kernel_size=1, bias=norm is None)
        self.norm = nn.BatchNorm2d(inner) if norm == "bn" else None
        self.value = nn.Conv2d(inputs, 1, kernel_size=1)
        self.scaling = inner**-0.5 if scale else 1.0
        for convolution in (self.query, self.value):
            nn.init.normal_(convolution.weight, std=0.01)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def forward(self, features: Tensor, index: Tensor, lam: Tensor | float, size: tuple[int, int]) -> Tensor:
        """Return the masks of the pairs (i, index[i]).

        Args:
            features: (N, C, h, w), without gradient in AutoMix.
            index: (N,) int64, the partner of each image.
            lam: The share of images[i] in the mix: a number or (N,).
            size: Height and width (H, W) of the images.

        Returns:
            (N, 1, H, W) in [0, 1]: the weight of images[i]; images[index[i]] has one minus it.
        """
        attention, value_j = self.attend(features, index, lam)
        n, _, h, w = features.shape
        logits_j = torch.einsum("npq,nq->np", attention, value_j).view(n, 1, h, w)
        mode = self.settings.upsample
        logits_j = F.interpolate(logits_j, size, mode=mode, align_corners=False if mode == "bilinear" else None)
        return 1 - torch.sigmoid(logits_j)

    def attend(self, features: Tensor, index: Tensor, lam: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return the attention P (N, hw, hw) of Eq. 6, rows summing to one, and the value of image j (N, hw)."""
        n = len(features)
        lam = torch.as_tensor(lam, dtype=features.dtype, device=features.device).expand(n)
        query_i, query_j = self._queries(features, index, lam)
        attention = torch.softmax(torch.einsum("ncp,ncq->npq", query_i, query_j) * self.scaling, dim=-1)
        c = features.shape[1]
        value = F.conv2d(features, self.value.weight[:, :c], self.value.bias).flatten(1)[index]
        if self.settings.lam_embedding:
            value = value + (1 - lam)[:, None] * self.value.weight[:, c].flatten()
        return attention, value

    def _queries(self, features: Tensor, index: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries of images i and j, each (N, C', hw)."""
        c = features.shape[1]
        if self.norm is not None:  # the norm is not linear: the lambda channel has to be there
            partner = features[index]
            pair = [(features, lam), (partner, 1 - lam)]
            return tuple(self.norm(self.query(self._embed(z, ratio))).flatten(2) for z, ratio in pair)
        query = F.conv2d(features, self.query.weight[:, :c], self.query.bias).flatten(2)
        query_j = query[index]
        if not self.settings.lam_embedding:
            return query, query_j
        weight = self.query.weight[:, c].view(1, -1, 1)
        # (1 - lambda) * weight on image j would add the same to every logit of a row: softmax does not see it.
        return query + lam[:, None, None] * weight, query_j

    def _embed(self, features: Tensor, ratio: Tensor) -> Tensor:
        if not self.settings.lam_embedding:
            return features
        n, _, h, w = features.shape
        return torch.cat([features, ratio[:, None, None, None].expand(n, 1, h, w)], dim=1)


def save_mix_block(block: MixBlock, path: str | Path) -> None:
    """Write the weights to `path` (.safetensors) and the constructor's arguments beside them (.json)."""
    path = Path(path).with_suffix(".safetensors")
    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in block.state_dict().items()}, temporary)
    write_json(path.with_suffix(".json"), asdict(block.settings))


def load_mix_block(path: str | Path) -> MixBlock:
    """Read what `save_mix_block` wrote.

    Raises:
        UserError: A file is missing, or the weights do not fit the arguments beside them.
    """
    path = Path(path).with_suffix(".safetensors")
    block = MixBlock(**read_json(path.with_suffix(".json")))
    try:
        block.load_state_dict(load_file(path))
    except (FileNotFoundError, RuntimeError) as error:
        raise UserError(f"{path}: no Mix Block can be read here ({' '.join(str(error).split())})") from error
    return block.eval()
