"""FMix (Harris et al., 2020): masks of arbitrary shape, cut from low-frequency noise at the level that fits lambda."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, paste, require_positive

Spectrum = Literal["intended", "official"]


@dataclass(frozen=True)
class NoiseDraw(Draw):
    """The white noise that the mask comes from: (H, W) complex64 on the CPU, one for the batch."""

    noise: Tensor


@dataclass(frozen=True)
class FMix(PairPolicy):
    """The round(lam * H * W) highest pixels of a random low-frequency field show image i; lam becomes their share.

    One mask serves the batch, as in the authors' code (github.com/ecs-vlc/FMix). That keeps the sampled lambda in the
    label, which is the same within 1 / (H * W).

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha).
        decay: Amplitudes fall with the frequency to this power; 3 in the paper and in the code.
        spectrum: See `low_frequency_field`.
    """

    name: ClassVar[str] = "fmix"
    decay: float = 3.0
    spectrum: Spectrum = "intended"

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        super().__post_init__()
        require_positive(self.name, decay=self.decay)
        if self.spectrum not in get_args(Spectrum):
            raise ValueError(f"{self.name}: spectrum has to be 'intended' or 'official', not {self.spectrum!r}")

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> NoiseDraw:
        """Draw the noise; see `PairPolicy`."""
        return NoiseDraw(pairs.lam, pairs.index, torch.randn(size, generator=generator, dtype=torch.complex64))

    def apply(self, images: Tensor, targets: Tensor, draw: NoiseDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`. The mask is computed where the noise is, so that every device shows the same one."""
        field = low_frequency_field(draw.noise, self.decay, self.spectrum)
        return paste(images, targets, draw.index, highest(field, draw.lam)[None, None])


def low_frequency_field(noise: Tensor, decay: float = 3.0, spectrum: Spectrum = "intended") -> Tensor:
    """Return the inverse Fourier transform of noise divided by max(f, 1 / max(H, W)) ** decay, f in cycles a pixel.

    "intended" is what the paper defines: the real part of the transform of complex noise, the same in all directions.
    "official" is what the authors' code does with the same noise: where it means the real and the imaginary part, it
    takes the rows of the first two vertical frequencies, and what is left is read as a spectrum of only the horizontal
    frequencies zero and one. Its fields vary by one wave across the image and freely down it.

    Args:
        noise: (H, W) complex; "official" needs H of two or more.
        decay: Of the amplitudes.
        spectrum: Which of the two.

    Returns:
        (H, W) float.
    """
    height, width = noise.shape
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width))
    decayed = noise * frequency.clamp(min=1 / max(height, width)) ** -decay
    if spectrum == "intended":
        return torch.fft.ifft2(decayed).real
    rows = torch.view_as_real(decayed)[:2, : width // 2 + 1 + width % 2]
    return torch.fft.irfft2(torch.complex(rows[0], rows[1]), s=(height, width))


def highest(field: Tensor, share: float) -> Tensor:
    """Return where the highest round(share * H * W) values of a field (H, W) are: (H, W) bool."""
    order = field.flatten().argsort(descending=True)
    mask = torch.zeros_like(order, dtype=torch.bool)
    mask[order[: round(share * len(order))]] = True
    return mask.view_as(field)
