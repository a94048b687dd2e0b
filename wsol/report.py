"""What an evaluation prints, and the file it leaves: wsol.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pretrain.files import write_json


def write_result(out: str | Path, result: dict[str, Any]) -> Path:
    """Write `out/wsol.json` and return its path."""
    path = Path(out) / "wsol.json"
    write_json(path, result)
    return path


def print_result(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the figures of wsol.json as a small table, and the protocol that makes them comparable."""
    console = console or Console(highlight=False)
    protocol, score, centre = result["protocol"], result["max_box_acc_v2"], result["centre_baseline"]
    columns = [*map(str, protocol["iou_thresholds"]), "mean"]
    table = Table(title=f"{protocol['metric']}, %, {protocol['split']} split, {result['images']} images")
    table.add_column("IoU at least")
    for column in columns:
        table.add_column(column if column == "mean" else f"{column} %", justify="right")
    rows: list[tuple[str, dict[str, float] | None]] = [
        ("class activation maps" if result["checkpoint"] else "score maps", score),
        ("centred Gaussian (baseline)", centre),
        ("right class and right box (Top-1)", result["top1_loc"]),
    ]
    for name, values in rows:
        if values:
            table.add_row(name, *(f"{values[column]:.2f}" for column in columns))
    best = result["best_threshold"]
    table.add_row("best score threshold", *(f"{best[column]:.3f}" for column in columns[:-1]), "")
    console.print(table)
    if result["top1_cls"] is not None:
        console.print(f"Top-1 classification {result['top1_cls']:.2f} %; {result['classes']}")
    console.print(f"thresholds: {protocol['threshold_choice']}; interval {protocol['interval']}; contours: all")
    if result["checkpoint"]:
        width, height = protocol["map_size"][1], protocol["map_size"][0]
        console.print(
            f"maps {width}x{height} at {protocol['input_size']} px, of the {protocol['label']}; "
            f"stride of the last stage: {protocol['last_stage_stride']}"
        )
    if score["mean"] < centre["mean"]:
        console.print(f"The mean is {centre['mean'] - score['mean']:.2f} points BELOW the centred Gaussian.")
    if result["blank_maps"]:
        console.print(f"{result['blank_maps']} maps are blank (constant, or with NaN) and count as no box.")
    if result.get("size_mismatches"):
        console.print(f"{result['size_mismatches']} images are not of the size the metadata give: is it the same set?")
