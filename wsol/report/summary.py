"""A result of an evaluation in words: the tables and the sentences that the terminal and the Markdown file share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsol.errors import KINDS

SHOWN_CLASSES = 5  # of the best and of the worst each
METHODS = {
    "cam": "class activation maps",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "scorecam": "Score-CAM",
}
ERRORS = (KINDS[0], "wrong class", *KINDS[1:])
CLASS_TOO = "right class and right box"


@dataclass(frozen=True)
class Grid:
    """A table of texts.

    Attributes:
        title: Above it.
        headings: Of the columns; the first column holds names, the others numbers.
        rows: As long as the headings each.
        groups_end: Indices of the rows below which a line stands.
        bold: Indices of the rows that stand out.
    """

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    groups_end: set[int] = field(default_factory=set)
    bold: set[int] = field(default_factory=set)


def grids(result: Mapping[str, Any]) -> list[Grid]:
    """Return the tables of a result (wsol.json, see docs/wsol.md); what the result lacks is left out."""
    if "pxap" in result:
        return [_pixel_figures(result)]
    found = [_figures(result)]
    found += [_errors(result["errors"])] if result.get("errors") else []
    found += [_paper(result)] if result.get("paper") else []
    found += [_classes(result)] if len(result.get("per_class") or ()) > 1 else []
    return found


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what the figures mean: the protocol, what was compared with what, and what is missing and why."""
    return [*_verdicts(result), *_thresholds(result), *_missing(result), *_protocol(result)]


def title(result: Mapping[str, Any]) -> str:
    """Return "MaxBoxAccV2, %, CUB_200_2011, test split, 5794 images"."""
    protocol = result["protocol"]
    data = f", {protocol['data']}" if protocol.get("data") else ""
    return f"{protocol['metric']}, %{data}, {protocol['split']} split, {result['images']} images"


def method_name(protocol: Mapping[str, Any]) -> str:
    """Return the kind of the maps, e.g. "Grad-CAM"; "score maps" where it is not known."""
    name = str(protocol.get("cam") or "score maps")
    return METHODS.get(name.lower().replace("-", "").replace("_", ""), name)


def class_name(name: str) -> str:
    """Return a class name as it is read: with blanks instead of underscores."""
    return name.replace("_", " ")


def _figures(result: Mapping[str, Any]) -> Grid:
    ious = [str(iou) for iou in result["protocol"]["iou_thresholds"]]
    columns, maps, chosen = [*ious, "mean"], method_name(result["protocol"]), result.get("chosen_on_val")
    rows: list[tuple[str, ...]] = []
    ends: set[int] = set()

    def add(name: str, values: Mapping[str, float] | None, thresholds: Mapping[str, float] | None = None) -> None:
        if values:
            rows.append((name, *(f"{values[column]:.2f}" for column in columns)))
        if values and thresholds:
            rows.append(("  at score threshold", *(f"{thresholds[iou]:.3f}" for iou in ious), ""))

    add(f"{maps}, oracle threshold", result["max_box_acc_v2"], result["best_threshold"])
    add(f"{CLASS_TOO} (Top-1)", result.get("top1_loc"))
    add(f"{CLASS_TOO} (Top-5)", result.get("top5_loc"))
    add("centred Gaussian (baseline)", result["centre_baseline"])
    ends.add(len(rows) - 1)
    if chosen:
        add(f"threshold chosen on {chosen['split']}", chosen["max_box_acc_v2"], chosen["threshold"])
        add(f"{CLASS_TOO} (Top-1)", chosen.get("top1_loc"))
        add(f"{CLASS_TOO} (Top-5)", chosen.get("top5_loc"))
        add("centred Gaussian (baseline)", chosen.get("centre_baseline"))
        ends.add(len(rows) - 1)
    add("largest contour only (first version)", result.get("max_box_acc_v1"), result.get("best_threshold_v1"))
    bold = {index for index, row in enumerate(rows) if row[0].endswith("oracle threshold") or "chosen on" in row[0]}
    headings = ("IoU at least", *(f"{iou} %" for iou in ious), "mean")
    return Grid(title(result), headings, rows, ends - {len(rows) - 1}, bold)


def _pixel_figures(result: Mapping[str, Any]) -> Grid:
    rows = [
        (method_name(result["protocol"]), f"{result['pxap']:.2f}"),
        ("centred Gaussian (baseline)", f"{result['centre_baseline']['pxap']:.2f}"),
    ]
    return Grid(title(result), ("pixel average precision", "PxAP"), rows, bold={0})


def _errors(errors: Mapping[str, Any]) -> Grid:
    sets = {"box": errors["gt_known"], "class and box": errors.get("top1")}
    kinds = [kind for kind in ERRORS if any(kind in parts for parts in sets.values() if parts)]
    rows = [
        (name, *(f"{parts[kind]:.1f}" if kind in parts else "" for kind in kinds))
        for name, parts in sets.items()
        if parts
    ]
    where = f"IoU {errors['iou']} %, score threshold {errors['threshold']:.3f}"
    return Grid(f"What went wrong, % of all images, {where}", ("right", *kinds), rows)


def _paper(result: Mapping[str, Any]) -> Grid:
    paper, here = result["paper"], result["max_box_acc_v2"]["mean"]
    rows = [
        (
            f"{method} (as here)" if method == paper["method"] else method,
            f"{figure:.2f}",
            f"{round(here - figure, 2) + 0.0:+.2f}",
        )
        for method, figure in paper["figures"].items()
    ]
    own = {index for index, method in enumerate(paper["figures"]) if method == paper["method"]}
    name = f"Table {paper['table']} of the paper, {paper['backbone']}; here {here:.2f}"
    if not paper["comparable"]:
        name += ", NOT comparable"
    return Grid(name, ("method", "paper", "here - paper"), rows, bold=own)


def _classes(result: Mapping[str, Any]) -> Grid:
    """The best and the worst classes, by the mean; the order of equals is that of the labels."""
    ranked = sorted(result["per_class"], key=lambda row: -row["max_box_acc_v2"]["mean"])
    few = len(ranked) <= 2 * SHOWN_CLASSES
    shown = ranked if few else [*ranked[:SHOWN_CLASSES], *ranked[-SHOWN_CLASSES:]]
    known = all(row["top1_cls"] is not None for row in shown)
    ious = [str(iou) for iou in result["protocol"]["iou_thresholds"]]
    rows = [
        (
            *(class_name(row["name"]), str(row["images"])),
            *([f"{row['top1_cls']:.1f}"] if known else []),
            *(f"{row['max_box_acc_v2'][column]:.1f}" for column in (*ious, "mean")),
        )
        for row in shown
    ]
    name = "Classes by their mean, %" if few else f"The best and the worst of {len(ranked)} classes, %"
    headings = ("class", "images", *(["Top-1"] if known else []), *(f"{iou} %" for iou in ious), "mean")
    return Grid(f"{name}; all of them: per_class.csv", headings, rows, set() if few else {SHOWN_CLASSES - 1})


def _verdicts(result: Mapping[str, Any]) -> list[str]:
    """What the figures are worth: against the centred Gaussian and against the paper."""
    if "pxap" in result:
        pairs = [("PxAP", result["pxap"], result["centre_baseline"]["pxap"])]
    else:
        pairs = [("The mean", result["max_box_acc_v2"]["mean"], result["centre_baseline"]["mean"])]
        if chosen := result.get("chosen_on_val"):
            name = f"With the threshold chosen on {chosen['split']}, the mean"
            pairs.append((name, chosen["max_box_acc_v2"]["mean"], chosen["centre_baseline"]["mean"]))
    found = [
        f"{name} lies {centre - score:.2f} points BELOW the centred Gaussian, which does not look at the image."
        for name, score, centre in pairs
        if score < centre
    ]
    if paper := result.get("paper"):
        verdict = "comparable" if paper["comparable"] else "NOT comparable"
        found.append(f"Beside the paper's Table {paper['table']}, {paper['backbone']}: {verdict}; {paper['why']}.")
        below, total = paper["below_centre"], len(paper["figures"])
        who = f"All {total}" if len(below) == total else f"{len(below)} ({', '.join(below)}) of the {total}"
        if below:
            verb = "lies" if len(below) == 1 else "lie"
            found.append(
                f"{who} figures of that column {verb} below the centred Gaussian of CUB's test split, "
                f"{paper['centre']:.2f}."
            )
    return found


def _thresholds(result: Mapping[str, Any]) -> list[str]:
    protocol, chosen = result["protocol"], result.get("chosen_on_val")
    if "pxap" in result:
        return ["PxAP is an area under a curve over all score thresholds: none is chosen."]
    found = [f"Score thresholds: {protocol['threshold_choice']}."]
    if chosen:
        found.append(
            f"Those chosen on {chosen['split']} were found on its {chosen['images']} images, and hold here as they are."
        )
    else:
        found.append(
            f"No threshold was chosen on another split ({result.get('why_no_val') or 'none was given'}): the figures "
            "are upper bounds of what a threshold that was chosen beforehand would give."
        )
    if result.get("errors"):
        found.append(
            "Kinds of error, the first that holds: several objects: more than 0.3 of each of two true boxes lies in "
            "the estimated one; part: more than half of it lies in the true box; more: at least 0.7 of the true box "
            "lies in it."
        )
    return found


def _missing(result: Mapping[str, Any]) -> list[str]:
    found = []
    if result.get("top1_cls") is not None:
        top5 = f", Top-5 {result['top5_cls']:.2f} %" if result.get("top5_cls") is not None else ""
        classes = f"; {result['classes']}" if result.get("classes") else ""
        found.append(f"Top-1 classification {result['top1_cls']:.2f} %{top5}{classes}.")
    elif "pxap" not in result:
        found.append("No Top-1 and no Top-5 figures: the maps came without the classes that the network predicted.")
    if result.get("blank_maps"):
        counted = "" if "pxap" in result else "; they count as no box"
        found.append(f"Blank maps (0 throughout: constant, or with NaN): {result['blank_maps']}{counted}.")
    if result.get("size_mismatches"):
        found.append(f"Images of another size than the metadata give: {result['size_mismatches']}; is it the same set?")
    return found


def _protocol(result: Mapping[str, Any]) -> list[str]:
    protocol, made_by = result["protocol"], result.get("checkpoint")
    maps = f"Maps: {method_name(protocol)}"
    maps += f" of the {protocol['label']}" if protocol.get("label") else ""
    maps += f", {_pixels(protocol['map_size'])} at {protocol['input_size']} px" if protocol.get("map_size") else ""
    if size := protocol.get("score_map_size"):
        # Maps that were made here are resized; those on disk are taken as they lie there.
        maps += f", resized to {_pixels(size)}" if protocol.get("map_size") else f" from disk, {_pixels(size)}"
    stride = protocol.get("output_stride")
    if stride:
        maps += "; the network keeps its own strides" if stride == "stock" else f"; output stride {stride}"
    if made := protocol.get("cam_made_by"):
        maps += f"; {made}"
    if other := [name for name in protocol.get("score_map_dtypes", []) if name != "float64"]:
        how = {"float32": "float32, cast to float64", "uint8": "uint8, divided by 255"}
        maps += f"; on disk they are {' and '.join(how.get(name, name) for name in other)}"
    if made := protocol.get("made_by"):
        maps += f"; by their note made by {_made_by(made)}"
    truth = "Masks" if "pxap" in result else "Boxes"
    counting = [f"{truth}: {protocol['split']} split, from {protocol['records_from']}"]
    counting += [f"digest {protocol['boxes_sha256'][:16]}"] if protocol.get("boxes_sha256") else []
    counting += [f"contours: {protocol['contours']}"] if protocol.get("contours") else []
    counting += [f"interval of the score thresholds {protocol['interval']:g}"] if protocol.get("interval") else []
    found = [f"{maps}.", f"{'; '.join(counting)}."]
    if made_by:
        names = [made_by[key] for key in ("method", "branch", "arch") if made_by.get(key)]
        digest = f"; sha256 {made_by['sha256'][:16]}" if made_by.get("sha256") else ""
        found.append(f"Checkpoint: {made_by['checkpoint']} ({', '.join(names)}){digest}.")
    return found


def _made_by(note: Mapping[str, Any]) -> str:
    """Return what scoremaps.json says: "teacher (automix, teacher, resnet18), cam of the true class, ..."."""
    who = ", ".join(str(note[key]) for key in ("method", "branch", "arch") if note.get(key))
    words = [f"{note.get('checkpoint', 'an unknown checkpoint')} ({who})" if who else str(note.get("checkpoint"))]
    words += [f"{note['cam']} of the {note.get('label', 'unknown')} class"] if note.get("cam") else []
    words += [f"{note['input_size']} px"] if note.get("input_size") else []
    words += [f"output stride {note['output_stride']}"] if note.get("output_stride") else []
    return ", ".join(words)


def _pixels(size: Sequence[int]) -> str:
    """Return "width x height" of (height, width)."""
    return f"{size[1]} x {size[0]}"
