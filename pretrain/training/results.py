"""What a run hands over at its end: the exported networks and result.json."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from pretrain.automix import AutoMix, save_mix_block
from pretrain.backbones import BackboneCard, export_backbone, stem_of
from pretrain.files import read_json, write_json
from pretrain.training.devices import environment
from pretrain.training.logbook import read_log
from pretrain.training.methods import Classification
from pretrain.training.settings import Settings

LAST_EPOCHS = 10  # the paper's figure is the median over the last ten epochs, of a hundred or more


def write_results(
    settings: Settings,
    folder: Path,
    method: AutoMix | Classification,
    classes: list[str],
    elapsed: float,
    steps: int,
    fabric: Fabric,
) -> dict[str, Any]:
    """Export every network of the method and write FOLDER/result.json; return what it holds, on every process."""
    path = folder / "result.json"
    if fabric.is_global_zero:
        networks = method.encoders()
        accuracies = last_epochs(folder, settings.optim.epochs, list(networks))
        for branch, network in networks.items():
            card = _card(settings, branch, accuracies, classes, environment(fabric))
            export_backbone(network, card, folder / "export" / branch)
        if isinstance(method, AutoMix) and method.generates:  # a frozen one belongs to the teacher that it came with
            save_mix_block(method.mix_block, folder / "export" / "mix_block")
        result = {
            "name": settings.name,
            "method": settings.method.name,
            "branch": next(iter(networks)),
            "accuracy": accuracies,
            "train_seconds": elapsed,
            "steps": steps,
            "images_per_second": steps * settings.data.batch_size / elapsed if elapsed else 0.0,
            "environment": environment(fabric),
            "settings": asdict(settings),
        }
        write_json(path, result)
    fabric.barrier()
    return read_json(path)


def last_epochs(folder: Path, epochs: int, networks: list[str]) -> dict[str, float]:
    """Return the median of each network's accuracies over the last ten epochs (Section 4.1), in percent.

    A run of fewer than a hundred epochs counts its last tenth, at least the last one: what is far from the end is no
    sample of the result. Epochs that were not evaluated are not there to be counted.
    """
    first = epochs - min(LAST_EPOCHS, max(1, epochs // 10))
    names = [f"{network}_top{k}" for network in networks for k in (1, 5)]
    evaluated = [entry for entry in read_log(folder) if entry.get("epoch", 0) > first and names[0] in entry]
    return {name: statistics.median(entry[name] for entry in evaluated) for name in names}


def _card(
    settings: Settings, branch: str, accuracies: dict[str, float], classes: list[str], versions: dict[str, str]
) -> BackboneCard:
    size = settings.data.transform.size
    return BackboneCard(
        arch=settings.backbone.name,
        classes=tuple(classes),
        stem=stem_of(settings.backbone.name),
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        input_size=(size, size),
        method=settings.method.name,
        branch=branch,
        training=asdict(settings),
        metrics={key.removeprefix(f"{branch}_"): value for key, value in accuracies.items() if key.startswith(branch)},
        environment=versions,
    )
