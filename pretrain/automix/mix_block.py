"""The Mix Block: from the feature maps of two images and lambda to a mask for each pixel (Eqs. 4 to 6)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError
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


class Projection(NamedTuple):
    """W_P z (N, C / reduction, h, w) and W_Z z (N, 1, h, w) of a batch, without lambda."""

    query: Tensor
    value: Tensor


class MixBlock(nn.Module):
    """Lambda-embedded cross-attention between the two images of a pair.

    A position of image i attends over the positions of image j (Eq. 6), and what it finds there says how much of the
    pixel belongs to image j: the form of the authors' code. Eq. 5 writes the value of image i instead; the two differ
    by the name of the mask only, since s_j = 1 - s_i.

    Appending lambda as a channel adds a constant to what a 1x1 convolution gives at each position. So one projection
    of the features (`project`) serves every lambda and every permutation (`mask`). Both compute in float32, under
    autocast too: sums of squared features overflow half precision.

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
            (N, 1, H, W) float32 in [0, 1]: the weight of images[i]; images[index[i]] has one minus it.
        """
        return self.mask(self.project(features), index, lam, size)

    def project(self, features: Tensor) -> Projection:
        """Return the projections of features (N, C, h, w) that `mask` needs, for any pairs and any lambda."""
        c = self.settings.in_channels
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.query.weight.dtype)
            query = F.conv2d(features, self.query.weight[:, :c], self.query.bias)
            return Projection(query, F.conv2d(features, self.value.weight[:, :c], self.value.bias))

    def mask(self, projection: Projection, index: Tensor, lam: Tensor | float, size: tuple[int, int]) -> Tensor:
        """Return what `forward` does, from the projections."""
        n, _, h, w = projection.value.shape
        with torch.autocast(projection.value.device.type, enabled=False):
            value_j = projection.value[index].flatten(2)
            logits_j = torch.bmm(value_j, self.attention(projection, index, lam).mT).view(n, 1, h, w)
            if self.settings.lam_embedding:  # rows of the attention sum to one: a constant in the value stays as it is
                logits_j = logits_j + (1 - _per_sample(lam, 4)) * self.value.weight[:, -1:]
            mode = self.settings.upsample
            logits_j = F.interpolate(logits_j, size, mode=mode, align_corners=False if mode == "bilinear" else None)
            return 1 - torch.sigmoid(logits_j)  # s_i, from s_j

    def attention(self, projection: Projection, index: Tensor, lam: Tensor | float) -> Tensor:
        """Return P (N, hw, hw) of Eq. 6: for each position of image i (rows) the weights of image j's positions."""
        query, partner = projection.query, projection.query[index]
        if self.settings.lam_embedding:
            weight = self.query.weight[:, -1].view(1, -1, 1, 1)
            query = query + _per_sample(lam, 4) * weight
            if self.norm is not None:  # else it adds the same to every logit of a row, which softmax does not see
                partner = partner + (1 - _per_sample(lam, 4)) * weight
        if self.norm is not None:
            query, partner = self.norm(query), self.norm(partner)
        return torch.softmax(self.scaling * torch.bmm(query.flatten(2).mT, partner.flatten(2)), dim=-1)


def _per_sample(lam: Tensor | float, dimensions: int) -> Tensor | float:
    """Return lambda so that it multiplies a tensor (N, ...) of so many dimensions; a number stays a number."""
    return lam.view(-1, *[1] * (dimensions - 1)) if isinstance(lam, Tensor) else lam


def save_mix_block(block: MixBlock, path: str | Path) -> None:
    """Write the weights to `path` (.safetensors) and the constructor's arguments beside them (.json)."""
    path = Path(path).with_suffix(".safetensors")
    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in block.state_dict().items()}, temporary)
    write_json(path.with_suffix(".json"), asdict(block.settings))


def load_mix_block(path: str | Path) -> MixBlock:
    """Read what `save_mix_block` wrote.

    Raises:
        UserError: A file is missing or damaged, or the weights do not fit the arguments beside them.
    """
    path = Path(path).with_suffix(".safetensors")
    settings = read_json(path.with_suffix(".json"))
    try:
        block = MixBlock(**settings)
        block.load_state_dict(load_file(path))
    except (FileNotFoundError, RuntimeError, TypeError, SafetensorError) as error:
        raise UserError(f"{path}: no Mix Block can be read here ({' '.join(str(error).split())})") from error
    return block.eval()
