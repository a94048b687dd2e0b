"""What an evaluation prints and writes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pretrain.backbones import BackboneCard
from wsol.report import print_result, write_images, write_result
from wsol.report.output import as_markdown
from wsol.report.paper import beside


def by_iou(*values: float) -> dict[str, float]:
    return dict(zip(("30", "50", "70", "mean"), (*values, sum(values) / 3)))


def per_class(count: int) -> list[dict[str, Any]]:
    """Classes whose mean is 10, 12, 14, ... in a shuffled order: class n has 10 + 2 * (7 n mod count)."""
    return [
        {
            "label": label,
            "name": f"Bird_{label}",
            "images": 5,
            "top1_cls": 40.0 + label,
            "max_box_acc_v2": by_iou(*[10.0 + 2 * (7 * label % count)] * 3),
        }
        for label in range(count)
    ]


def make_result(**changes: Any) -> dict[str, Any]:
    result: dict[str, Any] = {
        "what": "Localisation by class activation maps.",
        "metric": "MaxBoxAccV2",
        "images": 5794,
        "blank_maps": 0,
        "max_box_acc_v2": by_iou(90.0, 57.0, 15.0),
        "best_threshold": {"30": 0.221, "50": 0.342, "70": 0.423},
        "max_box_acc_v1": by_iou(89.0, 56.5, 14.5),
        "best_threshold_v1": {"30": 0.231, "50": 0.352, "70": 0.433},
        "top1_cls": 77.68,
        "top5_cls": 93.12,
        "top1_loc": by_iou(70.0, 44.0, 12.0),
        "top5_loc": by_iou(84.0, 53.0, 14.0),
        "centre_baseline": by_iou(93.0, 60.0, 18.0),
        "chosen_on_val": {
            "split": "val",
            "images": 1000,
            "threshold": {"30": 0.251, "50": 0.372, "70": 0.453},
            "max_box_acc_v2": by_iou(89.5, 56.0, 14.0),
            "top1_loc": by_iou(69.0, 43.0, 11.0),
            "top5_loc": by_iou(83.0, 52.0, 13.0),
            "centre_baseline": by_iou(92.0, 59.0, 17.0),
        },
        "errors": {
            "threshold": 0.342,
            "iou": 50,
            "gt_known": {"correct": 57.0, "several objects": 0.4, "part": 22.1, "more": 15.2, "other": 5.3},
            "top1": {
                "correct": 44.0,
                "wrong class": 22.3,
                "several objects": 0.3,
                "part": 17.1,
                "more": 11.2,
                "other": 5.1,
            },
        },
        "per_class": per_class(23),
        "paper": None,
        "protocol": {
            "metric": "MaxBoxAccV2",
            "contours": "all",
            "interval": 0.001,
            "iou_thresholds": [30, 50, 70],
            "threshold_choice": "oracle: best on the evaluated split itself",
            "split": "test",
            "records_from": "metadata",
            "boxes_sha256": "e3557e61b70252ce" + "0" * 48,
            "score_map_size": [224, 200],
            "data": "CUB_200_2011",
            "input_size": 224,
            "map_size": [14, 13],
            "output_stride": "16",
            "cam": "cam",
            "label": "true class",
        },
        "checkpoint": {
            "checkpoint": "teacher",
            "method": "automix",
            "branch": "teacher",
            "arch": "resnet18",
            "sha256": "ab" * 32,
        },
        "classes": "200 of the checkpoint's 200 classes",
        "size_mismatches": 0,
        "pictures": {"curves": "curves.png", "sheet": "sheet.png"},
    }
    card = BackboneCard("resnet18", (), method="automix", training={"name": "cub200/r18_200ep"})
    result["paper"] = beside(card, result["protocol"])
    return {**result, **changes}


def printed(result: dict[str, Any], width: int = 80, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    print_result(result, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # type: ignore[attr-defined]


def row(text: str, name: str, number: int = 0) -> list[str]:
    """Return the cells behind the name in the table's line that begins with it, the n-th such."""
    return [line.strip()[len(name) :].split() for line in text.splitlines() if line.strip().startswith(name)][number]


def test_every_figure_stands_in_the_row_that_it_is_of() -> None:
    text = printed(make_result())
    assert row(text, "class activation maps, oracle threshold") == ["90.00", "57.00", "15.00", "54.00"]
    assert row(text, "threshold chosen on val") == ["89.50", "56.00", "14.00", "53.17"]
    assert row(text, "largest contour only (first version)") == ["89.00", "56.50", "14.50", "53.33"]
    for name, oracle, val in (
        ("at score threshold", "0.221 0.342 0.423", "0.251 0.372 0.453"),
        ("right class and right box (Top-1)", "70.00 44.00 12.00 42.00", "69.00 43.00 11.00 41.00"),
        ("right class and right box (Top-5)", "84.00 53.00 14.00 50.33", "83.00 52.00 13.00 49.33"),
        ("centred Gaussian (baseline)", "93.00 60.00 18.00 57.00", "92.00 59.00 17.00 56.00"),
    ):
        assert row(text, name) == oracle.split()
        assert row(text, name, 1) == val.split()
    assert row(text, "at score threshold", 2) == ["0.231", "0.352", "0.433"]
    assert row(text, "box ") == ["57.0", "0.4", "22.1", "15.2", "5.3"]
    assert row(text, "class and box") == ["44.0", "22.3", "0.3", "17.1", "11.2", "5.1"]
    assert "IoU 50 %, score threshold 0.342" in text
    assert "Top-1 classification 77.68 %, Top-5 93.12 %; 200 of the checkpoint's 200 classes." in text


def test_the_protocol_is_said() -> None:
    text = printed(make_result())
    assert "Score thresholds: oracle: best on the evaluated split itself." in text
    assert "Those chosen on val were found on its 1000 images" in text
    maps = "class activation maps of the true class, 13 x 14 at 224 px, resized to 200 x 224; output stride 16."
    assert maps in text
    assert "test split, from metadata; digest e3557e61b70252ce; contours: all" in text
    assert "interval of the score thresholds 0.001" in text
    assert "teacher (automix, teacher, resnet18); sha256 abababababababab." in text
    changes = {"cam": "gradcam++", "label": "predicted class", "output_stride": "stock"}
    text = printed(make_result(protocol={**make_result()["protocol"], **changes}))
    assert "Grad-CAM++, oracle threshold" in text
    assert "Grad-CAM++ of the predicted class" in text
    assert "keeps its own strides" in text


def test_a_mean_below_the_centre_is_said_and_one_above_is_not() -> None:
    text = printed(make_result())
    assert "The mean lies 3.00 points BELOW the centred Gaussian" in text
    assert "With the threshold chosen on val, the mean lies 2.83 points BELOW" in text
    assert "BELOW" not in printed(make_result(centre_baseline=by_iou(90.0, 57.0, 15.0), chosen_on_val=None))


def test_the_papers_table_stands_beside() -> None:
    text = printed(make_result())
    assert row(text, "vanilla") == ["49.91", "+4.09"]
    assert row(text, "automix (as here)") == ["54.46", "-0.46"]
    assert text.count("(as here)") == 1
    assert "Table 8, R-18: comparable; the same images, boxes and metric" in text
    assert "All 7 figures of that column lie below the centred Gaussian of CUB's test split, 56.83." in text
    assert "NOT comparable" not in text
    card = BackboneCard("resnext50_32x4d", ())
    other = beside(card, {**make_result()["protocol"], "split": "val"})
    text = printed(make_result(paper=other))
    assert "NOT comparable; the split is val, not test." in text
    assert "RX-50; here 54.00, NOT comparable" in text
    assert "2 (vanilla, mixup) of the 7 figures" in text
    assert "(as here)" not in text
    assert "Table 8" not in printed(make_result(paper=None))
    even = make_result(max_box_acc_v2={**by_iou(1.0, 1.0, 1.0), "mean": 54.459999})
    assert row(printed(even), "automix (as here)")[1] == "+0.00"


def test_what_is_missing_is_left_out_and_said() -> None:
    none = dict.fromkeys(("top1_cls", "top5_cls", "top1_loc", "top5_loc", "chosen_on_val", "paper", "checkpoint"))
    errors = {**make_result()["errors"], "top1": None}
    classes = [{**one, "top1_cls": None} for one in per_class(3)]
    bare = {key: make_result()["protocol"][key] for key in ("metric", "iou_thresholds", "threshold_choice", "split")}
    protocol = {**bare, "records_from": "metadata", "interval": 0.001, "score_map_size": [224, 224]}
    text = printed(make_result(**none, errors=errors, per_class=classes, protocol=protocol))
    assert "None" not in text
    assert "Top-1)" not in text
    assert "came without the classes that the network predicted" in text
    assert "No threshold was chosen on another split" in text
    assert row(text, "score maps, oracle threshold")[-1] == "54.00"
    assert "class and box" not in text
    assert "wrong class" not in text
    assert "blank" not in text
    noted = printed(make_result(blank_maps=3, size_mismatches=2))
    assert "Blank maps (0 throughout: constant, or with NaN): 3; they count as no box." in noted
    assert "Images of another size than the metadata give: 2;" in noted


def test_the_best_and_the_worst_classes_are_shown() -> None:
    text = printed(make_result())
    shown = [line.split() for line in text.splitlines() if line.startswith("Bird ")]
    assert [float(line[-1]) for line in shown] == [54, 52, 50, 48, 46, 18, 16, 14, 12, 10]
    label = int(shown[0][1])
    assert 10 + 2 * (7 * label % 23) == 54
    assert shown[0][2:4] == ["5", f"{40 + label:.1f}"]
    assert "of 23 classes" in text
    few = printed(make_result(per_class=per_class(10)))
    assert sum(line.startswith("Bird ") for line in few.splitlines()) == 10
    assert "Bird" not in printed(make_result(per_class=per_class(1)))


@pytest.mark.parametrize("width", [80, 120])
def test_everything_fits_the_terminal(width: int) -> None:
    long = per_class(23)
    long[0]["name"] = "a_class_[bold]of_a_very_long_name[/bold]_that_needs_more_than_one_line_of_a_terminal"
    text = printed(make_result(per_class=long), width, terminal=True)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert row(text, "class activation maps, oracle threshold")[-1] == "54.00"


def test_in_a_pipe_a_sentence_is_one_line() -> None:
    lines = printed(make_result(), 80).splitlines()
    assert any("Beside the paper" in line and "how its score threshold was chosen." in line for line in lines)


def test_pixels_have_their_own_figures() -> None:
    kept = ("images", "what", "protocol", "checkpoint", "classes")
    result = {key: make_result()[key] for key in kept}
    result |= {"metric": "PxAP", "pxap": 41.5, "centre_baseline": {"pxap": 44.25}, "pictures": {}}
    result["protocol"] = {**result["protocol"], "metric": "PxAP"}
    text = printed(result)
    assert row(text, "class activation maps") == ["41.50"]
    assert row(text, "centred Gaussian (baseline)") == ["44.25"]
    assert "PxAP lies 2.75 points BELOW the centred Gaussian" in text
    assert "none is chosen" in text
    assert "Top-1" not in text
    assert "| **41.50** |" in as_markdown(result)


def test_the_files_hold_the_result(tmp_path: Path) -> None:
    result = make_result()
    assert write_result(tmp_path / "out", result) == tmp_path / "out" / "wsol.json"
    assert json.loads((tmp_path / "out" / "wsol.json").read_text()) == result
    with (tmp_path / "out" / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 23
    assert rows[3] == {
        "label": "3",
        "class": "Bird_3",  # as in images.csv
        "images": "5",
        "top1_cls": "43.0000",
        **{f"max_box_acc_v2_{column}": "52.0000" for column in ("30", "50", "70", "mean")},
    }
    text = (tmp_path / "out" / "wsol.md").read_text()
    assert "| **class activation maps, oracle threshold** | **90.00** | **57.00** | **15.00** | **54.00** |" in text
    assert text.startswith("# MaxBoxAccV2, %, CUB\\_200\\_2011, test split, 5794 images\n")
    assert "![sheet](sheet.png)" in text
    sizes = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    assert sizes == [6] * 14 + [8] * 4 + [4] * 9 + [8] * 12  # tables have a head and a rule each, and whole rows
    write_result(tmp_path / "out", make_result(per_class=[]))
    assert not (tmp_path / "out" / "per_class.csv").exists()


def test_names_are_no_markup() -> None:
    classes = per_class(2)
    classes[0]["name"] = "a|b*c<d"
    classes[1]["name"] = "[red]x[/red]"
    assert "| a\\|b\\*c\\<d | 5 |" in as_markdown(make_result(per_class=classes))
    assert "[red]x[/red]" in printed(make_result(per_class=classes))


def test_images_are_written_as_they_come(tmp_path: Path) -> None:
    def stream() -> Iterator[dict[str, Any]]:
        yield {
            "image_id": "1/a,b.jpg", "label": 0, "class": "Duck", "predicted": "Owl", "top1": False, "top5": True,
            "iou": 0.123456, "box": [1, 2, 30, 40], "error": "part",
        }  # fmt: skip
        yield {"image_id": "2/c.jpg", "label": 1, "class": "Owl", "predicted": None, "top1": None, "iou": 1.0}

    assert write_images(tmp_path / "images.csv", stream()) == 2
    with (tmp_path / "images.csv").open() as file:
        first, second = csv.DictReader(file)
    assert list(first.values()) == [
        *("1/a,b.jpg", "0", "Duck", "Owl", "no", "yes", "0.1235", "1", "2", "30", "40", "part"),
    ]
    corners = ["x0", "y0", "x1", "y1"]
    assert list(first) == ["image_id", "label", "class", "predicted", "top1", "top5", "iou", *corners, "error"]
    assert list(second.values()) == ["2/c.jpg", "1", "Owl", "", "", "", "1.0000", "", "", "", "", ""]
    with pytest.raises(ValueError, match="score"):
        write_images(tmp_path / "other.csv", [{"image_id": "1", "score": 1}])
    assert [path.name for path in tmp_path.iterdir()] == ["images.csv"]  # nothing half-written
