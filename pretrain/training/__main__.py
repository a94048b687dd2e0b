"""Command line of the pretraining; tools/pretrain.sh starts it on one device or on many."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table

from pretrain.console import run_tool
from pretrain.training.devices import launch_fabric
from pretrain.training.dry_run import dry_run
from pretrain.training.dry_run_page import print_page
from pretrain.training.loop import train
from pretrain.training.method_settings import METHODS
from pretrain.training.settings import load_settings


def main() -> None:
    """Parse the arguments, train by each method in turn, and print what they reached."""
    parser = argparse.ArgumentParser(prog="tools/pretrain.sh", description="Pretrain a backbone.")
    parser.add_argument("config", help="a file under configs/")
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="METHOD",
        help=f"train by these, one after the other, not by the config's own: {', '.join(sorted(METHODS))}",
    )
    parser.add_argument("--work-dir", type=Path, help="default: work_dirs/<name of the config>")
    parser.add_argument("--resume", choices=("auto",), help="go on from the last training state, where there is one")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, make one step, print what the run is and costs; nothing is written",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="e.g. optim.lr=0.2; of several methods, method.KEY=VALUE is for the first",
    )
    arguments = parser.parse_args()

    changes = arguments.cfg_options or {}
    for_all = {key: value for key, value in changes.items() if key.split(".")[0] != "method"}
    first, *others = arguments.method or [None]
    runs = [
        load_settings(arguments.config, changes, first),
        *(load_settings(arguments.config, for_all, name) for name in others),
    ]
    fabric = launch_fabric(runs[0].run.precision)
    results = []
    for settings in runs:
        folder = (arguments.work_dir or Path("work_dirs") / settings.name) / settings.method.name
        if arguments.dry_run:
            found = dry_run(settings, folder, fabric)
            if fabric.is_global_zero:
                print_page(found, Console())
        else:
            results.append(train(settings, folder, arguments.resume == "auto", fabric))

    if results and fabric.is_global_zero:
        table = Table(title=f"{runs[0].name}: accuracy in %", title_justify="left")
        for heading in ("method", "network", "top-1", "top-5", "train s", "images/s"):
            table.add_column(heading, justify="left" if heading in ("method", "network") else "right")
        for result in results:
            for network in [key.removesuffix("_top1") for key in result["accuracy"] if key.endswith("_top1")]:
                values = [result["accuracy"][f"{network}_top{k}"] for k in (1, 5)]
                seconds, speed = result["train_seconds"], result["images_per_second"]
                row = (f"{values[0]:.2f}", f"{values[1]:.2f}", f"{seconds:.0f}", f"{speed:.1f}")
                table.add_row(result["method"], network, *row)
        Console().print(table)


if __name__ == "__main__":
    run_tool(main)
