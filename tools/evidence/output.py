"""Files that a command was asked to write: whether they can be, before anything is computed for them."""

from __future__ import annotations

from pathlib import Path

from pretrain.console import UserError
from pretrain.files import require_writable


def require_file(path: Path, option: str, name: str) -> None:
    """Make the folder of a file if need be.

    Args:
        path: The file, there or not.
        option: The one that names it, for the message, e.g. "--out".
        name: A file's name to suggest, e.g. "report.html".

    Raises:
        UserError: It is a folder, or its folder takes no files.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file, such as {option} {path / name}")
    try:
        require_writable(path.parent)
    except UserError as error:
        raise UserError(f"{error}, by {option}") from error
