"""Images as an exported network wants them, read ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def read_rgb(path: Path) -> Image.Image:
    """Return the whole image as RGB.

    Raises:
        UserError: It is truncated, damaged, or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a whole image ({error}); fetch it again") from error


def prepare(image: Image.Image, size: int, card: BackboneCard) -> Tensor:
    """Resize to size x size, the aspect ratio not kept, and normalise as the card says.

    Returns:
        (3, size, size) float32.
    """
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    mean, std = (np.array(values, dtype=np.float32) for values in (card.mean, card.std))
    channels = (pixels - mean) / std
    return torch.from_numpy(np.ascontiguousarray(channels.transpose(2, 0, 1)))


def read_ahead(
    items: Sequence[Item], load: Callable[[Item], Loaded], batch_size: int, workers: int
) -> Iterator[list[tuple[Item, Loaded]]]:
    """Yield the items with what `load` makes of them, in order and in batches; the next batch is loaded meanwhile.

    Threads will do, because decoding and resizing release the interpreter; an error of `load` is raised here as it is.
    """
    pending: deque[list[tuple[Item, Future[Loaded]]]] = deque()
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for start in range(0, len(items), batch_size):
            pending.append([(item, pool.submit(load, item)) for item in items[start : start + batch_size]])
            if len(pending) == 2:
                yield [(item, future.result()) for item, future in pending.popleft()]
        while pending:
            yield [(item, future.result()) for item, future in pending.popleft()]
