"""Where the readers report what is wrong: an evaluation stops at the first mistake, the validator wants them all."""

from __future__ import annotations

from pretrain.console import UserError


class Problems:
    """Takes each mistake found in the metadata, and either raises it or keeps it.

    A reader that reports a mistake goes on as if the line were not there, so that one reader serves both.

    Args:
        gather: Keep the mistakes in `found`, instead of raising the first.
    """

    def __init__(self, gather: bool = False) -> None:
        self.gather = gather
        self.found: list[str] = []

    def report(self, where: object, what: str) -> None:
        """Take a mistake.

        Args:
            where: The file, and the line in it if it is in a line.
            what: What is wrong there, and the remedy, in one line.

        Raises:
            UserError: The mistakes are not being gathered.
        """
        if not self.gather:
            raise UserError(f"{where}: {what}")
        self.found.append(f"{where}: {what}")
