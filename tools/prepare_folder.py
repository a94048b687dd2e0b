"""Prepare any tree of image folders: give it a card, split it into train and val, or take a fraction of it.

Examples:
    python tools/prepare_folder.py --extracted DIR                       check DIR/{train,val}/<class>/, write its card
    python tools/prepare_folder.py --extracted DIR --out OUT --val-share 0.1       split DIR/<class>/
    python tools/prepare_folder.py --extracted DIR --out OUT --fraction 0.1        a tenth of DIR/{train,val}/<class>/
"""

from __future__ import annotations

from pathlib import Path

from pretrain.console import run_tool
from pretrain.data.prepare.command import add_subset, parser, print_summary
from pretrain.data.prepare.folder import prepare


def main() -> None:
    """Prepare the tree and print what there is."""
    command = parser(__doc__)
    command.add_argument("--extracted", type=Path, required=True, metavar="DIR", help="the tree of images")
    command.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: the tree gets a card)")
    command.add_argument("--name", help="of the data set (default: the folder's)")
    command.add_argument("--val-share", type=float, metavar="F", help="share of each class that becomes val/")
    add_subset(command)
    args = command.parse_args()
    card, data_set, state = prepare(args.extracted, args.out, args.name, args.val_share, args.fraction, args.seed)
    print_summary(card, data_set, args.out or args.extracted, state)


if __name__ == "__main__":
    run_tool(main)
