"""Maps of a class by one of several methods: the plain class activation map, or those of the grad-cam library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from pretrain.console import UserError, did_you_mean
from wsol.maps.cam import class_maps, features_and_logits, head_weight
from wsol.maps.gradcam import Tapped, library, library_maps

METHODS = ("cam", "gradcam", "gradcam++", "layercam", "scorecam")
LABELS = ("true", "predicted")
NAMES = {
    "cam": "plain CAM (Zhou et al., CVPR 2016)",
    "gradcam": "Grad-CAM (Selvaraju et al., ICCV 2017)",
    "gradcam++": "Grad-CAM++ (Chattopadhay et al., WACV 2018)",
    "layercam": "LayerCAM (Jiang et al., TIP 2021)",
    "scorecam": "Score-CAM (Wang et al., CVPR Workshops 2020)",
}


@dataclass(frozen=True)
class Maps:
    """What a `Mapper` returns for a batch.

    Attributes:
        maps: (N, h, w) float64, for `wsol.maps.cam.to_score_map`, which resizes and normalises each.
        logits: (N, classes) float32, on the CPU.
        grid: Height and width of the feature map behind them; the library's maps come resized.
    """

    maps: npt.NDArray[np.float64]
    logits: Tensor
    grid: tuple[int, int]


class Mapper:
    """Makes a map of one class for each image.

    The plain CAM takes one forward pass without gradients, and comes in float64 as it is defined. The others come from
    the grad-cam library (pip install "mixup-transfer[cam]"), and with its habits: float32, a ReLU, bilinear instead of
    cubic resizing, and division by the maximum and 1e-7; `to_score_map` then scales them to [0, 1] exactly. Hence their
    figures are not those of the reference's CAM, even where the two maps are the same in theory.

    Args:
        model: A classifier, on the device where it shall run, in eval mode.
        method: One of `METHODS`.
        label: "true" maps the given classes; "predicted" maps those of the largest logits, which makes another metric.
        arch: The network's name, for messages; its class's name otherwise.
        score_batch: Masked images in a forward pass of Score-CAM, which runs as many of them as the feature map has
            channels, for each image.

    Raises:
        UserError: An unknown word, or the library is not installed.
    """

    def __init__(
        self, model: nn.Module, method: str = "cam", label: str = "true", arch: str = "", score_batch: int = 32
    ) -> None:
        for what, given, known in (("method", method, METHODS), ("label", label, LABELS)):
            if given not in known:
                raise UserError(f"unknown {what} '{given}'{did_you_mean(given, list(known))}")
        self.model, self.method, self.label, self.arch, self.score_batch = model, method, label, arch, score_batch
        self.tapped = None
        if method != "cam":
            library()
            self.tapped = Tapped(model)

    def __call__(self, images: Tensor, labels: Tensor) -> Maps:
        """Return the maps of a batch.

        Args:
            images: (N, 3, H, W) float, normalised as the network expects.
            labels: (N,) int, the true classes.

        Raises:
            UserError: The network has no map of this method, or refuses images of this size.
        """
        images = images.to(next(self.model.parameters()).device)
        try:
            if self.tapped is None:
                return self._plain(images, labels)
            chosen = labels if self.label == "true" else None
            maps, logits, grid = library_maps(self.tapped, images, chosen, self.method, self.score_batch)
        except UserError as error:
            raise UserError(f"{self.arch}: {error}" if self.arch else str(error)) from error
        return Maps(maps, logits.float().cpu(), grid)

    def _plain(self, images: Tensor, labels: Tensor) -> Maps:
        features, logits = features_and_logits(self.model, images)
        chosen = labels if self.label == "true" else logits.argmax(dim=1)
        maps = class_maps(features, head_weight(self.model), chosen)
        return Maps(maps, logits.float().cpu(), (maps.shape[1], maps.shape[2]))

    def describe(self) -> str:
        """Return the method in words, for the protocol of a result."""
        if self.method == "cam":
            return f"{NAMES['cam']}: no bias, no ReLU, float64, cubic resizing"
        return (
            f"{NAMES[self.method]} by grad-cam {version('grad-cam')}: ReLU, float32, bilinear resizing, then scaled to "
            "[0, 1] in float64"
        )
