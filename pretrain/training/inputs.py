"""What a run sees: training batches that can go on from any step, and validation batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from pretrain.console import UserError
from pretrain.data.datasets import SeededImageFolder, open_image_folder
from pretrain.data.loaders import EpochSampler, batches_of, build_loader, far_pairs, stop
from pretrain.data.seeds import derive_seed, seeded_libraries
from pretrain.data.soft_labels import JoinedImages, SoftLabelledImages
from pretrain.data.transforms import Normalise, eval_transform, train_transform
from pretrain.training.devices import gather
from pretrain.training.guards import images_a_process
from pretrain.training.methods import views_of
from pretrain.training.settings import Settings


class Inputs:
    """The images of a run, for one of its processes.

    Attributes:
        classes: Their names, in the order of the logits.
        images: Numbers of training and of validation images.
        steps_per_epoch: Optimizer steps an epoch.

    Args:
        settings: Of the run.
        fabric: Launched; images are normalised on its device.

    Raises:
        UserError: The data set is missing, or a batch does not fit it or the number of processes.
    """

    def __init__(self, settings: Settings, fabric: Fabric) -> None:
        self.settings, self.fabric = settings, fabric
        data, seed = settings.data, settings.run.seed
        augment = train_transform(data.transform)
        if views := views_of(settings.method):
            augment = v2.Compose([augment, views])
        self._folder, self._val_set = open_image_folder(
            data.root, augment, eval_transform(data.transform), seed, data.prepare
        )
        train_set: SeededImageFolder | JoinedImages = self._folder
        if data.soft_labelled:
            train_set = JoinedImages(self._folder, SoftLabelledImages(data.soft_labelled, augment, seed))
        self.classes = train_set.classes
        self.images = len(train_set), len(self._val_set)
        batch = images_a_process(data.batch_size, fabric.world_size, settings.optim.accumulate)
        ranks = {"rank": fabric.global_rank, "world_size": fabric.world_size}
        self._sampler = EpochSampler(
            len(train_set), batch, shuffle=True, seed=seed, repeats=data.repeated_augmentation, **ranks
        )
        self.steps_per_epoch = self._sampler.steps_per_epoch
        if not self.steps_per_epoch:
            raise UserError(f"data.batch_size {data.batch_size} exceeds the {len(train_set)} training images")
        pin = fabric.device.type == "cuda"
        evaluated = EpochSampler(len(self._val_set), batch, shuffle=False, **ranks)
        self._loader = build_loader(train_set, self._sampler, data.workers, pin)
        self._val_loader = build_loader(self._val_set, evaluated, data.workers, pin)
        self._normalise = Normalise().to(fabric.device)
        self._erase = RandomErasing(data.transform.erasing, mode="pixel", device=fabric.device)

    def training(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches from step `step` of the run to the end of its epoch, on the device.

        Yields:
            Images (N, 3, H, W) float32, normalised, or (N, V, 3, H, W) for a method that asks for views, and labels,
            (N,) int64 or (N, K) float32.
        """
        self._sampler.start(*divmod(step, self.steps_per_epoch))
        for images, labels in self._batches(self._loader):
            yield self._erased(images, step), labels
            step += 1

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of the validation images, as `training` does, in one mixed order."""
        return self._batches(self._val_loader)

    def pairs(self, count: int = 4) -> Tensor:
        """Return `count` pairs of validation images as neighbours, (2 count, 3, H, W) normalised, of far classes."""
        spread = far_pairs(len(self._val_set), count)
        return self._prepare(torch.stack([self._val_set[0, index][0] for index in spread]))

    def close(self) -> None:
        """End the loaders' workers; the run needs no more images."""
        for loader in (self._loader, self._val_loader):
            stop(loader)

    def unreadable(self) -> list[str]:
        """Return the training images that could not be read so far and were replaced; every process has to ask."""
        flags = self._folder.unreadable
        if self.fabric.world_size > 1:
            flags = gather(flags.to(self.fabric.device), self.fabric).amax(dim=0)
        return [self._folder.path(index) for index in flags.nonzero().flatten().tolist()]

    def _batches(self, loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches_of(loader):
            yield self._prepare(images), labels.to(self.fabric.device, non_blocking=True)

    def _erased(self, images: Tensor, step: int) -> Tensor:
        """Return a step's images with boxes of noise, where that is asked for; decided by (seed, rank, step)."""
        if not self.settings.data.transform.erasing:
            return images
        seed = derive_seed(self.settings.run.seed, self.fabric.global_rank, step, 5)
        devices = [images.device] if images.device.type == "cuda" else []
        with seeded_libraries(seed), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return self._erase(images.flatten(0, -4)).view(images.shape)

    def _prepare(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.settings.run.channels_last else torch.contiguous_format
        views = images.shape[:-3]  # (N,), or (N, V) for a method that asks for views
        flat = images.flatten(0, -4).to(self.fabric.device, non_blocking=True)
        return self._normalise(flat.contiguous(memory_format=layout)).unflatten(0, views)
