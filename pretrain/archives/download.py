"""Downloading an archive: to a temporary name, going on where it stopped, and only whole under its own name."""

from __future__ import annotations

from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pretrain.archives.reading import BLOCK
from pretrain.archives.sources import Archive, checksum, require_checksum
from pretrain.console import UserError, progress
from pretrain.files import require_free_space

SECONDS_OF_SILENCE = 60.0


def download(archive: Archive, folder: Path) -> Path:
    """Download an archive into `folder` and check it.

    The bytes go to NAME.part. What is there of an earlier try is kept where the server can go on from a place.

    Returns:
        The archive's path.

    Raises:
        UserError: It needs a login, the server does not answer or breaks off, the disk is too small, or the checksum is
            wrong; in the last case the file is removed.
    """
    if archive.login:
        raise UserError(f"{archive.name}: {archive.login}; then download it from {archive.url} into {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    part, path = folder / f"{archive.name}.part", folder / archive.name
    require_free_space(folder, max(0, (archive.size or 0) - _size(part)), f"the download of {archive.name}")
    try:
        _fetch(archive, part)
    except (HTTPException, OSError) as error:  # URLError, timeouts and lost connections are OSErrors
        raise UserError(
            f"{archive.url}: the download stopped at {_size(part) / BLOCK:,.0f} MiB ({error}); run the same command "
            f"again to go on, or download it yourself into {folder}"
        ) from error
    algorithm = (archive.checksum or "sha256:").partition(":")[0]
    try:
        require_checksum(archive, part, f"{algorithm}:{checksum(part, algorithm)}")
    except UserError:
        part.unlink()
        raise
    part.replace(path)
    return path


def _fetch(archive: Archive, part: Path) -> None:
    have = _size(part)
    request = Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urlopen(request, timeout=SECONDS_OF_SILENCE)
    except HTTPError as error:
        if have and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it is there
            return
        raise
    with response:
        going_on = response.status == HTTPStatus.PARTIAL_CONTENT
        have = have if going_on else 0
        due = have + response.length if response.length is not None else None
        with part.open("ab" if going_on else "wb") as file:
            _receive(response, file, archive, have, due)
    if due is not None and _size(part) < due:
        raise OSError(f"the server sent {_size(part):,} of {due:,} bytes")


def _receive(response: HTTPResponse, file: IO[bytes], archive: Archive, have: int, due: int | None) -> None:
    total = -(-(due or archive.size or 0) // BLOCK)
    with progress(f"download of {archive.name}, MiB", total, done=have // BLOCK) as advance:
        while block := response.read(BLOCK):
            file.write(block)
            advance()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
