"""Label files of two columns."""

from __future__ import annotations

from collections.abc import Mapping

from pretrain.console import UserError


def lines(contents: Mapping[str, bytes], name: str) -> list[str]:
    """Return the lines of the text file `name` that are not blank.

    Raises:
        UserError: Not UTF-8 text.
    """
    try:
        return [line.strip() for line in contents[name].decode("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); download it again") from error


def pairs(contents: Mapping[str, bytes], name: str, separator: str | None = None, last: bool = False) -> dict[str, str]:
    """Return {first column: second column} of the text file `name`.

    Args:
        contents: Of label files, by name.
        name: Of the file.
        separator: Between the columns; None: white space.
        last: Whether the last separator of a line counts, for a first column that may hold one, rather than the first.

    Raises:
        UserError: A line does not have two columns, or its first one stands there for a second time.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(lines(contents, name), start=1):
        fields = line.rsplit(separator, 1) if last else line.split(separator, 1)
        if len(fields) != 2:
            raise UserError(f"{name}, line {number}: two columns are due, and this is '{line[:80]}'; download it again")
        if fields[0] in table:
            raise UserError(f"{name}, line {number}: '{fields[0]}' stands there twice; download it again")
        table[fields[0]] = fields[1]
    return table
