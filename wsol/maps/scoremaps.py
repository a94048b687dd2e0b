"""Score maps on disk, as wsolevaluation keeps them: `FOLDER/IMAGE_ID.npy`, float64, (height, width), in [0, 1]."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from pretrain.console import UserError
from pretrain.files import atomic_path, read_json, require_free_space, require_writable, write_json

# NumPy parses the header by Python's own parser, which in two threads at once now and then ends in a SystemError ("AST
# constructor recursion depth mismatch", seen with Python 3.11.7); reading takes a small part of the measuring.
READING = Lock()
NOTE = "scoremaps.json"  # how the maps beside it were made; maps of other programs come without one


class ScoreMapWriter:
    """Writes the maps of one evaluation; a note beside them says how they were made, and that all are there.

    Args:
        folder: Where to write; made if need be.
        count: Number of maps to come.
        size: Height and width of each, pixels.
        made_by: Plain values for the note.
        first: Whether this process writes the note; of several, one does.

    Raises:
        UserError: The folder cannot be written to, or the disk has not enough room for them.
    """

    def __init__(
        self, folder: str | Path, count: int, size: tuple[int, int], made_by: dict[str, Any], first: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.note = {"made_by": made_by, "images": count}
        self.first = first
        if not first:
            return
        require_writable(self.folder)
        require_free_space(self.folder, count * (size[0] * size[1] * 8 + 128), f"writing {count} score maps")
        write_json(self.folder / NOTE, {**self.note, "complete": False})

    def write(self, image_id: str, score_map: npt.NDArray[np.float64]) -> None:
        """Write one map (H, W) float64."""
        with atomic_path(score_map_path(self.folder, image_id)) as temporary:
            np.save(temporary, score_map, allow_pickle=False)

    def finish(self) -> None:
        """Note that all maps are there."""
        if self.first:
            write_json(self.folder / NOTE, {**self.note, "complete": True})


def score_map_path(folder: str | Path, image_id: str) -> Path:
    """Return the file of an image's score map."""
    return Path(folder) / f"{image_id}.npy"


def read_note(folder: str | Path) -> dict[str, Any]:
    """Return what the note says of the maps in a folder; empty where there is none.

    Raises:
        UserError: There is no such folder, or the run that wrote the maps did not end.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of score maps; write them with --checkpoint C --scoremaps {folder}")
    if not (folder / NOTE).is_file():
        return {}
    note = read_json(folder / NOTE)
    if not isinstance(note, dict) or not isinstance(note.get("made_by"), dict):
        raise UserError(
            f"{folder / NOTE}: not the note of score maps; write them again, or delete it if they are whole"
        )
    if not note.get("complete"):
        raise UserError(f"{folder}: the run that wrote these score maps did not end; run it again")
    return dict(note["made_by"])


def read_score_map(folder: str | Path, image_id: str) -> tuple[npt.NDArray[np.float64], str]:
    """Read one score map; whether its values are valid is for the metric to say.

    wsolevaluation takes float64 alone, and casts what it makes itself: float32 is cast likewise, and uint8 is divided
    by 255, which gives the same 8-bit pixels again.

    Returns:
        The map, float64 unless it is of a type that the metric refuses, and the name of its type on disk.

    Raises:
        UserError: The file is missing or is no NumPy array.
    """
    path = score_map_path(folder, image_id)
    try:
        with READING:
            found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such score map; are maps and metadata of the same split?") from error
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a NumPy array of numbers ({error}); write the score maps again") from error
    if not isinstance(found, np.ndarray):
        raise UserError(f"{path}: an archive of several arrays (.npz); write each map with numpy.save")
    if found.dtype == np.uint8:
        return found / 255, "uint8"
    return found.astype(np.float64) if found.dtype == np.float32 else found, str(found.dtype)
