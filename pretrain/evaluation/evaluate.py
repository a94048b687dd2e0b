"""The whole evaluation of a checkpoint: figures, tables and pictures, by one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from pretrain.console import UserError, did_you_mean, progress
from pretrain.data.seeds import derive_seed
from pretrain.data.transforms import eval_crop
from pretrain.evaluation.accuracy import accuracy_metrics
from pretrain.evaluation.calibration import Calibration, CalibrationMeter
from pretrain.evaluation.corruption import WHERE, corruption_accuracy, open_corruptions
from pretrain.evaluation.fgsm import FgsmMeter
from pretrain.evaluation.mixed_accuracy import MixedMeter
from pretrain.evaluation.mixes import BlockMixing, Mixing, mixings_of
from pretrain.evaluation.pictures import (
    draw_calibration,
    draw_masks_over_lambda,
    draw_masks_over_training,
    draw_mixed_cams,
)
from pretrain.evaluation.report import markdown
from pretrain.evaluation.subject import LARGEST_BATCH, Images, Subject, open_checkpoint
from pretrain.files import require_writable, write_json, write_text
from pretrain.mixups.policy import one_hot
from pretrain.plots import save_png

METRICS = ("accuracy", "ece", "fgsm", "mixed", "corruption", "cam", "masks")
IN_ONE_PASS = {"accuracy", "ece", "fgsm", "mixed"}
PICTURES = ("calibration", "mixed_cams", "masks_over_lambda", "masks_over_training")
DRAWN_PAIRS = 4
SEED = 0  # of every mix


def evaluate(
    checkpoint: Path,
    metrics: Sequence[str] = ("all",),
    out: Path | None = None,
    data: Path | None = None,
    cifar_c: Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Evaluate an exported checkpoint, and write OUT/evaluation.json, evaluation.md and pictures.

    Args:
        checkpoint: An exported backbone, or the folder of a run; see `open_checkpoint`.
        metrics: Of `METRICS`; "all" is all that are possible, and "left_out" says which are not, and why.
        out: A folder; None: RUN/evaluation, or for a file evaluation/NAME beside it.
        data: Folder with val/<class>/; None: that of the training.
        cifar_c: Folder of CIFAR-10-C's or CIFAR-100-C's .npy files.
        device: "auto", "cpu", "cuda", "cuda:1".
        batch_size: Images in a forward pass; None: that of the training, at most 256.

    Returns:
        What evaluation.json holds; accuracies and errors are in percent.

    Raises:
        UserError: A metric that was named is not possible, or is unknown; the checkpoint, the images or the device are
            not there, or do not fit together.
    """
    if unknown := [name for name in metrics if name not in (*METRICS, "all")]:
        comma = "; put spaces between names, not commas" if "," in unknown[0] else ""
        known = did_you_mean(unknown[0], [*METRICS, "all"])
        raise UserError(f"--metrics {unknown[0]}: no such metric{comma or known}")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: a batch has at least one image")
    subject = open_checkpoint(checkpoint, device)
    evaluation = _Evaluation(subject, out or subject.own_out, {*metrics})
    evaluation.run(data, cifar_c, batch_size)
    return evaluation.write()


class _Evaluation:
    """One checkpoint's figures and pictures on their way to a folder."""

    def __init__(self, subject: Subject, out: Path, asked: set[str]) -> None:
        require_writable(out)
        self.subject, self.out, self.asked = subject, out, asked
        self.names = {*METRICS} if "all" in asked else {*asked}
        self.classes = len(subject.card.classes)
        self.left_out: dict[str, str] = {}
        self.pictures: dict[str, str] = {}
        card = subject.card
        self.found: dict[str, Any] = {
            "checkpoint": str(subject.weights),
            "arch": card.arch,
            "method": card.method,
            "branch": card.branch,
        }

    def run(self, data: Path | None, cifar_c: Path | None, batch_size: int | None) -> None:
        """Compute what was asked for; what is not possible is found out before the long passes over the images."""
        card, corrupted = self.subject.card, None
        if "corruption" in self.names and cifar_c is None:
            self._leave_out("corruption", f"needs --cifar-c FOLDER; {WHERE}")
        elif "corruption" in self.names and cifar_c is not None:
            corrupted = open_corruptions(cifar_c, self.classes)
        if "masks" in self.names and card.method != "automix":
            self._leave_out("masks", f"only AutoMix has a Mix Block, and this is {card.method or 'of no known method'}")
        if self.names - {"corruption"}:
            images = Images(self.subject, data, batch_size)
            batch_size = images.batch_size
            self.found["data"] = {"root": str(images.root), "split": "val", "batch_size": batch_size}
            self.found["images"] = len(images)
            self._draw_and_measure(images)
        if corrupted is not None:
            prepare = v2.Compose([*eval_crop(self.subject.transform), self.subject.normalise])
            self.found["corruption"] = corruption_accuracy(
                self.subject.model, corrupted, prepare, batch_size or LARGEST_BATCH, self.subject.device
            )

    def _draw_and_measure(self, images: Images) -> None:
        subject, own_missing = self.subject, None
        mixings: dict[str, Mixing] = {}
        if self.names & {"mixed", "cam", "masks"}:
            mixings, own_missing = mixings_of(subject.model, subject.card, subject.weights)
        if own_missing and self.names & {"mixed", "cam"}:  # MixUp and CutMix are left, so the metrics are possible
            self.left_out[f"mixed by {subject.card.method or 'its own method'}"] = own_missing
        if "cam" in self.names:
            self._draw_cams(images, mixings)
        if "masks" in self.names:
            self._draw_masks(images, mixings, own_missing)
        self._measure(images, mixings)

    def _measure(self, images: Images, mixings: dict[str, Mixing]) -> None:
        """Compute what looks at every image, in one pass over them."""
        names = self.names & IN_ONE_PASS
        if not names:
            return
        model, normalise = self.subject.model, self.subject.normalise
        accuracies = accuracy_metrics(self.classes, self.subject.device)
        calibration = CalibrationMeter(self.classes)
        attack = FgsmMeter(model, normalise)
        mixed = _mixed_meters(self.subject, mixings) if "mixed" in names else {}
        with progress(f"evaluate {self.subject.weights.stem}", images.batches) as advance:
            for pixels, labels in images:
                normalised = normalise(pixels)
                if names & {"accuracy", "ece"}:
                    self._add_clean(normalised, labels, accuracies, calibration)
                if "fgsm" in names:
                    attack.update(pixels, labels)
                for meter in mixed.values():
                    meter.update(normalised, labels)
                advance()
        if "accuracy" in names:
            self.found |= {f"top{k}": 100 * float(metric.compute()) for k, metric in accuracies.items()}
        if "ece" in names:
            self._keep_calibration(calibration.compute())
        if "fgsm" in names:
            self.found |= {"fgsm_error": attack.compute(), "fgsm_epsilon": attack.epsilon}
        if "mixed" in names:
            self._keep_mixed(mixed, mixings)

    @torch.no_grad()
    def _add_clean(
        self,
        images: Tensor,
        labels: Tensor,
        accuracies: dict[int, MulticlassAccuracy],
        calibration: CalibrationMeter,
    ) -> None:
        logits = self.subject.model(images)
        for metric in accuracies.values():
            metric.update(logits, labels)
        calibration.update(logits, labels)

    def _keep_calibration(self, found: Calibration) -> None:
        self.found |= {"ece": found.ece, "calibration": found.bins()}
        self._picture("calibration", draw_calibration({self.subject.card.method or self.subject.weights.stem: found}))

    def _keep_mixed(self, meters: dict[tuple[str, float | None], MixedMeter], names: Iterable[str]) -> None:
        self.found["mixed"] = {}
        for name in names:
            drawn, half = meters[name, None], meters[name, 0.5]
            if not drawn.pairs or not half.pairs:
                self.left_out[f"mixed by {name}"] = "no mix shows images of two classes"
                continue
            at_half = {**half.compute(), "pairs": half.pairs}
            self.found["mixed"][name] = {**drawn.compute(), "pairs": drawn.pairs, "lambda_0.5": at_half}
        self.found |= {
            key: value
            for key, value in self.found["mixed"].get(self.subject.card.method, {}).items()
            if key in ("mixed_acc1", "mixed_acc2")
        }

    def _draw_cams(self, images: Images, mixings: dict[str, Mixing]) -> None:
        pixels, labels = images.pairs(DRAWN_PAIRS)
        mixes = {name: partial(_mixed_alone, mixing, one_hot(labels, self.classes)) for name, mixing in mixings.items()}
        try:
            figure = draw_mixed_cams(self.subject.model, self.subject.card, pixels.float() / 255, labels, mixes)
        except UserError as error:
            self._leave_out("cam", str(error))
            return
        self._picture("mixed_cams", figure)

    def _draw_masks(self, images: Images, mixings: dict[str, Mixing], own_missing: str | None) -> None:
        """Draw masks over lambda, of the Mix Block, and over training, of what its run left; one of them has to be."""
        missing: dict[str, str] = {}
        try:
            if not isinstance(mixing := mixings.get("automix"), BlockMixing):
                raise UserError(str(own_missing))
            seen = images.pairs(DRAWN_PAIRS)[0].float() / 255
            figure = draw_masks_over_lambda(mixing.block, mixing.network, seen, self.subject.card)
            self._picture("masks_over_lambda", figure)
        except UserError as error:
            missing["masks over lambda"] = str(error)
        try:
            if self.subject.run is None:
                raise UserError(f"{self.subject.weights}: it does not lie in the folder of its run")
            self._picture("masks_over_training", draw_masks_over_training(self.subject.run))
        except UserError as error:
            missing["masks over training"] = str(error)
        if len(missing) == 2:
            self._leave_out("masks", "; ".join(missing.values()))
        else:
            self.left_out |= missing

    def _leave_out(self, name: str, reason: str) -> None:
        if name in self.asked:
            raise UserError(f"metric '{name}' is not possible: {reason}")
        self.left_out[name] = reason
        self.names.discard(name)

    def _picture(self, name: str, figure: Figure) -> None:
        path = self.out / f"{name}.png"
        save_png(figure, path)
        self.pictures[name] = path.name

    def write(self) -> dict[str, Any]:
        """Write what was found in the place of an earlier evaluation, whose other pictures go, and return it."""
        found = {**self.found, "pictures": self.pictures, "left_out": self.left_out}
        write_json(self.out / "evaluation.json", found)
        write_text(self.out / "evaluation.md", markdown(found))
        for name in PICTURES:
            if name not in self.pictures:
                (self.out / f"{name}.png").unlink(missing_ok=True)
        return found


def _mixed_meters(subject: Subject, mixings: dict[str, Mixing]) -> dict[tuple[str, float | None], MixedMeter]:
    """Return for every method a meter with lambda as in training, and one with lambda 0.5; each draws for itself."""
    meters = {}
    for name, mixing in mixings.items():
        for lam in (None, 0.5):
            generator = torch.Generator().manual_seed(derive_seed(SEED))
            mix = partial(mixing, generator=generator, lam=lam)
            meters[name, lam] = MixedMeter(subject.model, mix, len(subject.card.classes))
    return meters


def _mixed_alone(mixing: Mixing, targets: Tensor, images: Tensor, index: Tensor) -> Tensor:
    """Return the mixed images for lambda 0.5."""
    generator = torch.Generator().manual_seed(derive_seed(SEED))
    return mixing(images, targets, generator, 0.5, index.cpu())[0]
