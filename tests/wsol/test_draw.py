"""The pictures show what they say."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from wsol.draw import (
    ESTIMATE_COLOUR,
    TRUE_COLOUR,
    Case,
    draw_curves,
    draw_overlay,
    draw_overlays,
    draw_sheet,
)
from wsol.draw.cases import fitted, heated
from wsol.draw.curves import curves_figure
from wsol.draw.overlays import overlay_figure
from wsol.draw.sheet import sheet_figure

TRUE, ESTIMATE = np.array([[2, 3, 13, 28]]), np.array([18, 3, 29, 28])


def make_case(size: tuple[int, int] = (64, 48), iou: float = 0.1, mode: str = "RGB", **more: Any) -> Case:
    """Return a case: the true box in the left half, the estimated in the right."""
    score_map = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    image = Image.new("RGB", size, (40, 40, 60)).convert(mode)
    return replace(Case("001.Duck/duck_7.jpg", image, score_map, TRUE, ESTIMATE, iou, "a duck"), **more)


def places(picture: np.ndarray, colour: str) -> np.ndarray:
    """Rows and columns of the pixels of that colour, without the legend."""
    close = np.abs(picture.astype(int) - np.array(to_rgb(colour)) * 255).max(axis=2) < 40
    return np.stack(np.nonzero(close[: int(picture.shape[0] * 0.85)]))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(64, 64), (90, 45), (40, 80), (20, 200)])
def test_boxes_stand_where_they_belong(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    case = make_case(size, mode=mode)
    draw_overlay(tmp_path / "a.png", case)
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    green, red = places(picture, TRUE_COLOUR), places(picture, ESTIMATE_COLOUR)
    middle = (green[1].min() + red[1].max()) / 2  # the two panels are alike
    for half in (np.less, np.greater):
        in_panel = [found[:, half(found[1], middle)] for found in (green, red)]
        assert all(found.size for found in in_panel)
        assert in_panel[0][1].max() < in_panel[1][1].min()  # true left, estimate right
        tall, wide = np.ptp(in_panel[0][0]), np.ptp(in_panel[0][1])
        aspect = min(size[1] / size[0], 5)  # of the panel, for which 1:10 is too narrow
        if aspect < 5:
            assert tall / wide == pytest.approx(26 / 12 * aspect, rel=0.2)


def test_boxes_are_drawn_around_their_pixels() -> None:
    """Both corners count as inside, so that the box 2..13 goes from 1.5 to 13.5."""
    figure = overlay_figure(make_case())
    for axes in figure.axes[:2]:
        true, estimate = axes.patches
        assert isinstance(true, Rectangle)
        assert isinstance(estimate, Rectangle)
        assert (true.get_x(), true.get_y(), true.get_width(), true.get_height()) == (1.5, 2.5, 12, 26)
        assert (estimate.get_x(), estimate.get_width()) == (17.5, 12)
        assert [to_hex(box.get_edgecolor()) for box in (true, estimate)] == [TRUE_COLOUR, ESTIMATE_COLOUR]
        assert true.get_linestyle() == "-" != estimate.get_linestyle()


@pytest.mark.parametrize(
    ("iou", "words"),
    [(0.5, "IoU 0.50: hit"), (0.49999, "IoU 0.49: miss"), (0.29, "IoU 0.29: miss"), (1.0, "1.00: hit")],
)
def test_an_overlay_says_whether_it_is_a_hit(iou: float, words: str) -> None:
    title, verdict = texts(overlay_figure(make_case(iou=iou, note="part")))
    assert title == "a duck"
    assert words in verdict
    assert verdict.endswith("; part")


def test_dollars_in_a_name_are_no_formula(tmp_path: Path) -> None:
    """matplotlib would refuse this one."""
    case = make_case(title="$\\duck$", note="taken for $\\owl$")
    draw_overlay(tmp_path / "a.png", case)
    draw_sheet([case], [], tmp_path / "sheet.png", "$\\all$")
    assert texts(overlay_figure(case))[0] == "$\\duck$"


def test_the_map_covers_the_picture_as_its_scores_say() -> None:
    """inferno ends in (0.988362, 0.998364, 0.644924); the highest score covers three quarters."""
    image = Image.new("RGB", (8, 8), (100, 100, 100))
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(heated(Image.fromarray(pixels), np.zeros((32, 32))), pixels)
    top = heated(image, np.ones((32, 32)))[4, 4]
    expected = 0.75 * 255 * np.array([0.988362, 0.998364, 0.644924]) + 0.25 * 100
    np.testing.assert_allclose(top, expected, atol=0.5)
    ramp = heated(Image.new("RGB", (64, 4)), np.tile(np.linspace(0, 1, 64), (4, 1)))[2] @ [0.299, 0.587, 0.114]
    assert (np.diff(ramp) >= -0.5).all()  # on black the score is the brightness
    left_half = np.zeros((2, 4))
    left_half[:, :2] = 1
    covered = heated(image, left_half)[4, :, 0]
    assert covered[0] > 200
    assert covered[-1] == 100


def test_overlays_are_drawn_one_at_a_time_and_earlier_ones_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "overlays"
    folder.mkdir()
    for name in ("000_earlier.png", "1000_earlier.png", "mine.png"):
        (folder / name).touch()

    def stream() -> Iterator[Case]:
        yield make_case(image_id="001.Duck/a duck.jpg")
        assert (folder / "000_a_duck.png").stat().st_size
        yield make_case(image_id="002.Owl/owl_1.2.jpg")

    assert draw_overlays(stream(), folder) == ["overlays/000_a_duck.png", "overlays/001_owl_1.2.png"]
    assert sorted(path.name for path in folder.iterdir()) == ["000_a_duck.png", "001_owl_1.2.png", "mine.png"]


SHAPES = [(64, 64), (90, 45), (40, 80), (300, 30), (30, 300), (1, 1)]


def sheet_cases(count: int, kind: str, note: str = "") -> list[Case]:
    return [
        make_case(
            SHAPES[n % len(SHAPES)],
            0.9 if kind == "best" else 0.1,
            ("L", "RGB", "P")[n % 3],
            title=f"{kind} {n} " + "of a very long name" * (n % 3),
            note=note,
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(("best", "worst"), [(8, 8), (1, 0), (0, 2), (3, 5)])
def test_a_sheet_has_every_case_once_and_nothing_overlaps(best: int, worst: int) -> None:
    cases = [*sheet_cases(best, "best"), *sheet_cases(worst, "worst", "wrong class: taken for a very different bird")]
    figure = sheet_figure(cases[:best], cases[best:], "all of it, a title that is far too long for one line of a sheet")
    assert len(figure.axes) == best + worst
    written = texts(figure)
    for kind, count in (("best", best), ("worst", worst)):
        assert (f"{kind} {count} by IoU" in written) == (count > 0)
        assert sum(text.startswith(tuple(f"{kind} {n} " for n in range(9))) for text in written) == count + (count > 0)
    assert sum(text.startswith("IoU 0.10, wrong class: ") for text in written) == worst
    assert sum(text == "IoU 0.90" for text in written) == best

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [artist.get_window_extent(renderer) for artist in (*figure.axes, *figure.texts, *figure.legends)]
    for first, second in combinations(boxes, 2):
        assert not first.padded(-1).overlaps(second), (first, second)
    for box in boxes:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1 + 1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
    sides = np.array([axes.get_window_extent(renderer).size for axes in figure.axes])
    np.testing.assert_allclose(sides, sides[0, 0], atol=0.01)  # squares, all of one size


@pytest.mark.parametrize("size", [(64, 64), (90, 45), (40, 80)])
def test_a_tile_keeps_the_shape_of_its_picture(size: tuple[int, int]) -> None:
    figure = sheet_figure([make_case(size)], [])
    [axes] = figure.axes
    figure.draw(FigureCanvasAgg(figure).get_renderer())
    true = axes.patches[0].get_window_extent()
    assert true.height / true.width == pytest.approx(26 / 12 * size[1] / size[0], rel=0.01)
    picture, whole = axes.images[0].get_window_extent(), axes.get_window_extent()
    assert max(picture.width, picture.height) == pytest.approx(whole.width, abs=1.5)
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.02)
    centre = (picture.x0 + picture.x1) / 2, (picture.y0 + picture.y1) / 2
    assert centre == pytest.approx(((whole.x0 + whole.x1) / 2, (whole.y0 + whole.y1) / 2), abs=1)


def test_a_sheet_holds_one_image_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[Image.Image]] = []
    most = 0

    def stream(kind: str) -> Iterator[Case]:
        nonlocal most
        for number in range(6):
            most = max(most, sum(image() is not None for image in alive))
            case = make_case((2000, 1000), title=f"{kind} {number}")
            alive.append(weakref.ref(case.image))
            yield case

    draw_sheet(stream("best"), stream("worst"), tmp_path / "sheet.jpg", "ducks")
    assert most <= 2  # the one before is let go of when the next has been taken
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert min(sheet.size) > 800


def test_a_sheet_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one case"):
        draw_sheet([], [], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_words_are_cut_to_the_width_they_have() -> None:
    figure = Figure(figsize=(4, 1), dpi=100)
    assert fitted(figure, "owl", 8, 2.0) == "owl"
    assert fitted(figure, "a" * 200, 8, 1.0).endswith("a…")
    short, long = (len(fitted(figure, "a" * 200, 8, width)) for width in (1.0, 2.0))
    assert long == pytest.approx(2 * short, abs=2)
    assert not figure.texts


def box_result(**more: Any) -> dict[str, Any]:
    thresholds = [0.0, 0.25, 0.5, 0.75]
    return {
        "images": 10,
        "protocol": {"metric": "MaxBoxAccV2", "split": "test", "data": "CUB_200_2011"},
        "thresholds": thresholds,
        "curve": {"30": [40.0, 90.0, 80.0, 10.0], "50": [20.0, 30.0, 70.0, 5.0]},
        "centre_curve": {"30": [35.0, 50.0, 60.0, 0.0], "50": [5.0, 40.0, 30.0, 0.0]},
        "max_box_acc_v2": {"30": 90.0, "50": 70.0, "mean": 80.0},
        "centre_baseline": {"30": 60.0, "50": 40.0, "mean": 50.0},
        "best_threshold": {"30": 0.25, "50": 0.5},
        **more,
    }


def test_curves_show_the_figures_and_what_was_chosen() -> None:
    chosen = {"threshold": {"30": 0.5, "50": 0.25}, "max_box_acc_v2": {"30": 80.0, "50": 30.0, "mean": 55.0}}
    result = box_result(chosen_on_val=chosen)
    [axes] = curves_figure(result).axes
    lines = [(line.get_xydata(), line) for line in axes.lines]
    curves = [(xy[:, 1].tolist(), line.get_linestyle()) for xy, line in lines if len(xy) > 1]
    assert curves == [
        (values, style)
        for iou in ("30", "50")
        for values, style in ((result["curve"][iou], "-"), (result["centre_curve"][iou], "--"))
    ]
    marks = {(line.get_marker(), *xy[0]) for xy, line in lines if len(xy) == 1}
    assert marks == {("o", 0.25, 90.0), ("o", 0.5, 70.0), ("D", 0.5, 80.0), ("D", 0.25, 30.0)}
    colours = [line.get_color() for xy, line in lines if len(xy) > 1]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"IoU at least 30 %", "centred Gaussian", "best here (oracle)", "threshold chosen on val"} <= set(legend)
    headline = curves_figure(result).get_suptitle()
    assert "80.00 %, centred Gaussian 50.00 %" in headline
    assert "CUB_200_2011, test, 10 images" in headline

    [axes] = curves_figure(box_result(chosen_on_val=None)).axes
    assert not any(line.get_marker() == "D" for line in axes.lines)
    assert "threshold chosen on val" not in [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_kinds_of_error_are_stacked() -> None:
    gt_known = {"correct": 70.0, "several objects": 0.0, "part": 16.0, "more": 4.0, "other": 10.0}
    top1 = {"correct": 50.0, "wrong class": 30.0, "several objects": 0.0, "part": 8.0, "more": 2.0, "other": 10.0}
    errors = {"threshold": 0.5, "iou": 50, "gt_known": gt_known, "top1": top1}
    axes = curves_figure(box_result(errors=errors)).axes[1]
    drawn = {bars.get_label(): [(bar.get_y(), bar.get_height()) for bar in bars] for bars in axes.containers}
    assert drawn == {
        "correct": [(0, 70), (0, 50)],
        "wrong class": [(70, 0), (50, 30)],
        "part": [(70, 16), (80, 8)],
        "more": [(86, 4), (88, 2)],
        "other": [(90, 10), (90, 10)],
    }  # no bar for what does not occur
    assert "4.0" not in [text.get_text() for text in axes.texts]  # no room for it
    assert "16.0" in [text.get_text() for text in axes.texts]
    [alone] = [curves_figure(box_result(errors={**errors, "top1": None})).axes[1]]
    assert [label.get_text() for label in alone.get_xticklabels()] == ["box"]


def test_classes_are_sorted_for_each_iou() -> None:
    rows = [{"max_box_acc_v2": {"30": a, "50": b}} for a, b in ((50.0, 10.0), (90.0, 5.0), (70.0, 20.0))]
    axes = curves_figure(box_result(per_class=rows)).axes[1]
    assert [list(line.get_ydata()) for line in axes.lines] == [[90, 70, 50], [20, 10, 5]]
    assert len(curves_figure(box_result(per_class=rows[:1])).axes) == 1


@pytest.mark.parametrize("backwards", [False, True])
def test_the_steps_of_precision_over_recall_hold_the_area(tmp_path: Path, backwards: bool) -> None:
    recall, precision = [0.0, 0.0, 0.2, 0.5, 1.0], [None, 1.0, 0.9, 0.6, 0.5]
    result = {
        "pxap": 61.0,  # 0.2 * 0.9 + 0.3 * 0.6 + 0.5 * 0.5
        "centre_baseline": {"pxap": 44.0},
        "recall": recall[:: -1 if backwards else 1],
        "precision": precision[:: -1 if backwards else 1],
        "images": 4,
        "protocol": {"metric": "PxAP", "split": "test", "data": "OpenImages"},
    }
    figure = curves_figure(result)
    [line] = figure.axes[0].lines
    steps = line.get_xydata()
    assert line.get_drawstyle() == "steps-pre"  # the height of a step is that of its right end
    assert np.isfinite(steps).all()
    area = (np.diff(steps[:, 0]) * steps[1:, 1]).sum() / 100
    assert area == pytest.approx(61.0)
    assert "PxAP 61.00 %, centred Gaussian 44.00 %" in figure.get_suptitle()
    draw_curves(tmp_path / "curves.svg", result)
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()
