"""Networks that were trained before, by this toolkit or by others."""

from __future__ import annotations

import re
import sys
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urldefrag, urlparse

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import load_state_dict
from torch import Tensor, nn

from pretrain.backbones.exported import load_backbone
from pretrain.console import UserError, did_you_mean, first_few, warn
from pretrain.files import atomic_path, sha256

URLS = ("http://", "https://")
OF_TIMM = ("hf-hub:", "local-dir:")
FILES = (".safetensors", ".pth", ".pth.tar", ".bin")


def load_pretrained(source: str) -> nn.Module:
    """Return a trained classifier in eval mode, frozen, for images normalised as they are here.

    Args:
        source: One of
            - the path of an exported backbone (.safetensors, with its card beside it);
            - name and tag of one of timm's pretrained networks, such as "resnet50.tv_in1k" (torchvision's weights);
            - "hf-hub:ORG/MODEL", or "hf-hub:ORG/MODEL@REVISION": a timm network on the Hugging Face hub;
            - "local-dir:FOLDER": the same in a folder, with config.json and model.safetensors.
            What has to be downloaded is downloaded once, by timm.

    Raises:
        UserError: There is no such file or name, the download fails, or the network wants another normalisation.
    """
    if is_bare(source):
        raise UserError(
            f"{source}: weights without a card do not say which network they are of; name an exported backbone or one "
            "of timm's networks, or start a run from these (backbone.pretrained) and name what it exports"
        )
    if source.endswith(".safetensors") and not source.startswith(OF_TIMM):
        network, card = load_backbone(Path(source))
        mean, std = card.mean, card.std
    else:
        network = _from_timm(source)
        mean, std = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
    if (tuple(mean), tuple(std)) != (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD):
        raise UserError(
            f"{source}: it wants images normalised by mean {mean} and std {std}, not ImageNet's; take another"
        )
    return network.requires_grad_(False).eval()


@torch.no_grad()
def start_from(network: nn.Module, source: str) -> None:
    """Copy into a network all weights of a trained one but those of its classification head.

    Args:
        network: Of `build_backbone`; its head keeps its own values.
        source: As for `load_pretrained`, or weights alone, under timm's names (for ResNets torchvision's are the same):
            - the path of a file, .safetensors, .pth, .pth.tar or .bin, that holds them bare or under "state_dict_ema",
              "model_ema", "state_dict" or "model", "module." before their names or not;
            - the URL of such a file with its digest, "https://HOST/NAME.pth#sha256=HEX". It is downloaded once, to
              torch.hub's folder of checkpoints, and verified each time.
            Weights alone do not say how images were prepared for them: they are taken to have been normalised as they
            are here, and a warning says so. No code that a file may carry is run.

    Raises:
        UserError: The two are not the same architecture, a file is damaged or is not the one of the digest, or as for
            `load_pretrained`.
    """
    own, bare = _body(network), is_bare(source)
    if bare:
        head = network.state_dict().keys() - own.keys()
        given = {name: value for name, value in read_bare(source).items() if name not in head}
    else:
        given = _body(load_pretrained(source))
    require_fit(own, given, source)
    for name, value in given.items():
        own[name].copy_(value)
    if bare:
        warn(
            f"{source} has no card: its images are taken to have been normalised by mean {IMAGENET_DEFAULT_MEAN} and "
            f"std {IMAGENET_DEFAULT_STD}"
        )


def untrained(source: str) -> nn.Module:
    """Return what `load_pretrained` would of one of timm's names, but with random weights and without a download.

    Raises:
        UserError: There is no such name.
    """
    return _from_timm(source, pretrained=False).requires_grad_(False).eval()


def timm_classifier(source: str) -> nn.Module:
    """Return one of timm's trained classifiers in eval mode, whatever normalisation its `pretrained_cfg` asks for.

    Args:
        source: Name and tag, "hf-hub:..." or "local-dir:...", as for `load_pretrained`.

    Raises:
        UserError: There is no such name, or the download fails.
    """
    network: nn.Module = _from_timm(source)
    return network.eval()


def is_bare(source: str) -> bool:
    """Return whether a source is weights alone, in a file or at a URL."""
    if source.startswith(OF_TIMM):
        return False
    if source.endswith(".safetensors"):  # where it is missing, what is missing is an exported backbone
        return source.startswith(URLS) or (Path(source).is_file() and not Path(source).with_suffix(".json").exists())
    return source.startswith(URLS) or source.endswith(FILES)


def _from_timm(name: str, pretrained: bool = True) -> Any:
    if not name.startswith(OF_TIMM) and name not in (known := timm.list_pretrained()):
        raise UserError(
            f"'{name}' is neither an exported backbone (.safetensors), nor weights ({', '.join(FILES)}, a URL), nor a "
            f"model for timm ({'..., '.join(OF_TIMM)}...), nor one of timm's pretrained networks"
            f"{did_you_mean(name, known) if '.' in name else '; their names carry a tag, such as resnet50.tv_in1k'}"
        )
    try:
        return timm.create_model(name, pretrained=pretrained)
    except RuntimeError as error:  # what timm and torch say of weights that do not fit or are not safe to read
        raise UserError(f"{name}: timm cannot load it ({_reason(error)})") from error
    except Exception as error:  # the hub raises errors of several libraries
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if name.startswith("local-dir:"):
            raise UserError(
                f"{name}: timm cannot read it ({first}); it needs config.json and model.safetensors, as on the hub"
            ) from error
        raise UserError(
            f"{name}: its weights cannot be downloaded ({first}); export the network where there is a connection, and "
            "name the file"
        ) from error


def read_bare(source: str) -> dict[str, Tensor]:
    """Return the tensors of a file, or of one at a URL, under their names; see `start_from` for the wrappings.

    Raises:
        UserError: The file is missing, damaged, holds something else, or would run code when read.
    """
    path = _download(source) if source.startswith(URLS) else Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # torch, safetensors and timm raise many kinds for a file that is something else
        blocked = re.search(r"GLOBAL (\w[\w.]*)|Unsupported class (\w[\w.]*)", f"{error} {error.__cause__}")
        if blocked is None:
            raise UserError(f"{path}: not a file of weights, or a damaged one ({_reason(error)})") from error
        raise UserError(
            f"{path}: refused, because reading it would run {blocked[1] or blocked[2]}; where it was made, save the "
            "weights alone (torch.save(model.state_dict(), PATH))"
        ) from error
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(
            f"{path}: holds no weights by their names, bare or under state_dict or model, but "
            f"{first_few([*weights]) or 'nothing'}; save model.state_dict()"
        )
    return weights


def _download(url: str) -> Path:
    """Return the file of a URL in torch.hub's folder of checkpoints, where it is put if it is not there."""
    address, fragment = urldefrag(url)
    name = PurePosixPath(urlparse(address).path).name
    if not name.endswith(FILES):
        raise UserError(f"{address}: a URL of weights has to end in a file name, {' or '.join(FILES)}")
    stated = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment.lower())
    if stated is None:
        raise UserError(
            f"{address}: what is downloaded has to be known beforehand; write {address}#sha256=HEX, the 64 hexadecimal "
            "digits of the file's SHA-256"
        )
    digest = stated[1]
    name = name if f"-{digest[:8]}." in name else f"{digest[:8]}-{name}"  # torch.hub's own names end in these digits
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        if (found := sha256(path)) != digest:
            raise UserError(f"{path}: its SHA-256 is {found}, not {digest}; delete it, and it is downloaded again")
        return path
    with atomic_path(path) as temporary:
        try:
            torch.hub.download_url_to_file(address, str(temporary), progress=sys.stderr.isatty())
        except (OSError, HTTPException) as error:
            raise UserError(
                f"{address}: cannot be downloaded ({_reason(error)}); fetch it where there is a connection, and name "
                "the file"
            ) from error
        if (found := sha256(temporary)) != digest:
            raise UserError(f"{address}: the SHA-256 of what came is {found}, not {digest}; check the two")
    return path


def _body(network: Any) -> dict[str, Tensor]:
    """Return the tensors of a classifier by name, without those of its head, or heads."""
    classifier = network.get_classifier()
    heads = classifier if isinstance(classifier, tuple) else (classifier,)
    left_out = {id(value) for head in heads for value in head.parameters()}
    return {name: value for name, value in network.state_dict(keep_vars=True).items() if id(value) not in left_out}


def require_fit(
    own: dict[str, Tensor],
    given: dict[str, Tensor],
    source: str,
    network: str = "the configured backbone",
    remedy: str = "set backbone.name to its architecture",
) -> None:
    """Raise a UserError that says which tensors are missing, left over or of another shape, if there are any.

    The count of batches that a batch norm has seen may be missing: files from before torch 0.4.1 do not have it.
    """
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    left_over = [name for name in given if name not in own]
    reshaped = {
        name: f"{name} {tuple(given[name].shape)} for {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    }
    if not missing and not left_over and not reshaped:
        return
    if not missing and not left_over and all(re.search("pos_embed|relative_position", name) for name in reshaped):
        raise UserError(
            f"{source}: its position embeddings are those of another image size ({first_few([*reshaped.values()])}); "
            "train at the size that the weights were trained at, or start from others"
        )
    kinds = {"missing": missing, "left over": left_over, "of another shape": [*reshaped.values()]}
    found = "; ".join(f"{len(names)} {kind}: {first_few(names)}" for kind, names in kinds.items() if names)
    raise UserError(f"{source}: not the weights of {network} (tensors {found}); {remedy}")


def _reason(error: Exception) -> str:
    """Return what an error says in one line of at most 200 characters, for a message."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
