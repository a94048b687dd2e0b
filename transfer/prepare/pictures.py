"""Whether pictures are there, can be opened, and have the size that their annotation says."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from transfer.prepare.findings import Problem

MISSING = Problem("picture that is not there", "give the archive to the prepare tool again: it writes what is missing")
UNREADABLE = Problem("picture that cannot be opened", "delete it and give the archive to the prepare tool again")
OTHER_SIZE = Problem(
    "picture of another size than its annotation says",
    "one of the two is of another set: delete both and unpack them again",
)

Size = tuple[int, int]  # width, height in pixels


def size_of(path: Path) -> Size:
    """Return a picture's size as its header says; the pixels are not decoded, an EXIF rotation is not applied.

    Raises:
        OSError: It is not there, or no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.size
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow on damaged headers
        raise OSError(str(error)) from error


def compare(path: Path, said: Size, where: str) -> tuple[Problem, str] | None:
    """Compare a picture's header with the size that its annotation says.

    Args:
        path: The picture.
        said: Width and height in the annotation.
        where: The annotation, for the message.

    Returns:
        What is wrong and where, or None.
    """
    try:
        found = size_of(path)
    except FileNotFoundError:
        return MISSING, f"{path}, named by {where}"
    except OSError as error:
        return UNREADABLE, f"{path}: {' '.join(str(error).split())}"
    if found != said:
        return OTHER_SIZE, f"{path} is {found[0]} x {found[1]}, {where} says {said[0]} x {said[1]}"
    return None
