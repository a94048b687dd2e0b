"""Calibration, accuracy over time, and the looks of methods: what is drawn is what was given, and can be read."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from pretrain import mixups
from pretrain.evaluation.calibration import Calibration
from pretrain.evaluation.labels import write_beside
from pretrain.evaluation.pictures import RIGHT, WRONG, draw_accuracy_over_time, draw_calibration
from pretrain.plots import COLOURS, STYLES, draw_curves, save_png, styles_of

# Bin 1 is empty; bin 0 is too cautious by 0.3, bin 3 too confident by 0.1. ECE: (0.3 * 10 + 0 * 10 + 0.1 * 20) / 40.
FOUR_BINS = Calibration(12.5, (0.2, None, 0.6, 0.9), (0.5, None, 0.6, 0.8), (10, 0, 10, 20))


def _bars(axes):
    """Return (x, y, width, height) of the bars, rounded, with their edge colours."""
    return [
        (*np.round((bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()), 6).tolist(), bar.get_edgecolor()[:3])
        for bar in axes.patches
    ]


def test_reliability_diagrams_show_the_bins():
    figure = draw_calibration({"mine": FOUR_BINS, "other": Calibration(0.04, (None, 0.75), (None, 0.75), (0, 3))})
    upper, other, lower, _ = figure.axes
    assert upper.get_title() == "mine\nECE 12.5 %"
    assert other.get_title() == "other\nECE 0.0 %"
    black = (0.0, 0.0, 0.0)
    assert _bars(upper) == [
        (0.0, 0.0, 0.25, 0.5, black),
        (0.0, 0.5, 0.25, -0.3, to_rgb(RIGHT)),
        (0.5, 0.0, 0.25, 0.6, black),
        (0.5, 0.6, 0.25, 0.0, to_rgb(RIGHT)),
        (0.75, 0.0, 0.25, 0.8, black),
        (0.75, 0.8, 0.25, 0.1, to_rgb(WRONG)),
    ]
    assert [bar.get_hatch() for bar in upper.patches[1::4]] == ["\\\\\\\\", "////"]
    [diagonal] = upper.lines
    assert np.array_equal(diagonal.get_xydata(), [(0, 0), (1, 1)])
    assert [bar[:4] for bar in _bars(lower)] == [(b / 4, 0, 0.25, share) for b, share in enumerate((25, 0, 25, 50))]
    means = [line.get_xdata()[0] for line in lower.lines]
    assert means == pytest.approx([(0.2 + 0.6 + 2 * 0.9) / 4, (0.5 + 0.6 + 2 * 0.8) / 4])
    assert [line.get_label() for line in lower.lines] == ["mean confidence", "mean accuracy"]
    for axes in figure.axes:
        assert axes.get_xlim() == (0, 1)
    assert upper.get_ylim() == other.get_ylim() == (0, 1)
    assert {axes.get_ylim() for axes in figure.axes[2:]} == {(0, 105)}  # the other's one bin holds all its images
    assert [entry.get_text() for entry in figure.legends[0].get_texts()][:3] == [
        "accuracy",
        "too confident by",
        "too cautious by",
    ]


@pytest.mark.parametrize(("panels", "shape"), [(1, (2, 1)), (4, (2, 4)), (6, (4, 4))])
def test_panels_stand_four_in_a_row(panels, shape):
    figure = draw_calibration({str(number): FOUR_BINS for number in range(panels)})
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == shape
    assert sum(axes.axison for axes in figure.axes) == 2 * panels
    assert [axes.get_title()[0] for axes in figure.axes if axes.get_title()] == [str(n) for n in range(panels)]


@pytest.mark.parametrize(
    ("slowest", "unit", "factor"),
    [(119, "s", 1), (120, "min", 60), (7199, "min", 60), (7200, "h", 3600), (172_800, "days", 86_400)],
)
def test_times_have_a_fitting_unit(slowest, unit, factor):
    figure = draw_accuracy_over_time({"automix": (slowest, 70.0, 0.5), "vanilla": (slowest / 2, 60.0, None)})
    [axes] = figure.axes
    assert axes.get_xlabel() == f"training time ({unit})"
    dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() in "os"]
    assert np.array(dots).ravel() == pytest.approx([slowest / factor, 70, slowest / factor / 2, 60])
    assert [line.get_color() for line in axes.lines if line.get_marker() in "os"] == [
        COLOURS["automix"],
        COLOURS["vanilla"],
    ]
    assert axes.get_xscale() == "linear"
    bars = [bar for container in axes.containers for bar in container.lines[2]]
    assert [bar.get_segments()[0][:, 1].tolist() for bar in bars] == [[69.5, 70.5]]


def test_a_time_that_is_counted_has_its_own_unit():
    axes = draw_accuracy_over_time({"automix": (7200, 70.0, None)}, "vanilla steps").axes[0]
    assert axes.get_xlabel() == "training time (vanilla steps)"
    assert axes.lines[0].get_xydata().tolist() == [[7200, 70]]


def test_slow_methods_do_not_press_the_others_together():
    """Ten times as slow is still linear; a time of zero has no logarithm."""
    for slowest, fastest, scale in ((100, 10, "linear"), (101, 10, "log"), (100, 0, "linear")):
        figure = draw_accuracy_over_time({"automix": (slowest, 70.0, None), "vanilla": (fastest, 60.0, None)})
        assert figure.axes[0].get_xscale() == scale


def _crowd(count):
    rng = np.random.default_rng(count)
    names = [*STYLES, "AutoMix, without a margin", "AutoMix, one head"][:count]
    return {name: (600 * rng.uniform(1, 1.4), 60 + rng.uniform(0, 2), rng.uniform(0.05, 0.2)) for name in names}


@pytest.mark.parametrize("points", [_crowd(20), _crowd(12), dict.fromkeys(list(STYLES)[:6], (600.0, 60.0, None))])
def test_names_cover_neither_points_nor_each_other(points):
    figure = draw_accuracy_over_time(points)
    figure.draw_without_rendering()
    [axes] = figure.axes
    renderer = figure.canvas.get_renderer()
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in axes.texts if text.get_text()}
    assert set(boxes) == set(points)
    for (one, first), (two, second) in combinations(boxes.items(), 2):
        assert not first.overlaps(second), (one, two)
    dots = [line for line in axes.lines if len(line.get_xydata()) == 1 and line.get_marker() not in ("_", "None")]
    for name, box in boxes.items():
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
        for dot in dots:
            place = axes.transData.transform(dot.get_xydata()[0])
            assert not box.overlaps(Bbox([place, place]).padded(3)), name


def test_a_name_beside_its_point_has_no_line_and_one_further_away_has():
    lonely = draw_accuracy_over_time({"automix": (1.0, 60.0, None), "vanilla": (2.0, 70.0, None)})
    assert len(lonely.axes[0].texts) == 2
    axes = Figure().subplots()
    axes.plot([0, 1], [0, 1], ls="")
    write_beside(axes, {str(number): (0.5, 0.5, 0.0) for number in range(12)})
    lines = [text for text in axes.texts if not text.get_text()]
    assert len(lines) == 12 - 4  # four names are next to the point; between them there is no room
    renderer = axes.figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer).padded(3) for text in axes.texts if text.get_text()]
    dots = axes.figure.dpi / 72
    for line in lines:
        assert line.xy == (0.5, 0.5)
        end = axes.transData.transform((0.5, 0.5)) + dots * np.array(line.get_position())
        assert any(box.contains(*end) for box in boxes)


@pytest.mark.parametrize("seed", [1, 5])  # lines to the nearest free places would cross what they may not
def test_no_line_crosses_names_or_points_where_there_is_room(seed):
    axes = Figure().subplots()
    axes.plot([0, 1], [0, 1], ls="")
    rng = np.random.default_rng(seed)
    points = {f"name {number}": (*rng.uniform(0.45, 0.55, 2).tolist(), 0.0) for number in range(8)}
    write_beside(axes, points)
    dots, renderer = axes.figure.dpi / 72, axes.figure.canvas.get_renderer()
    names = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    lines = [text for text in axes.texts if not text.get_text()]
    assert lines
    for line in lines:
        start = axes.transData.transform(line.xy)
        path = Path([start, start + dots * np.array(line.get_position())])
        places = axes.transData.transform([(x, y) for x, y, _ in points.values() if (x, y) != line.xy])
        marks = [Bbox([place, place]).padded(3 * dots) for place in places]
        assert not any(path.intersects_bbox(box) for box in [*names, *marks])


def test_error_bars_are_kept_free():
    axes = Figure().subplots()
    axes.plot([0, 1], [0, 1], ls="")
    write_beside(axes, {"bar": (0.5, 0.5, 0.5), "beside": (0.47, 0.1, 0.0)})
    renderer = axes.figure.canvas.get_renderer()
    ends = axes.transData.transform([(0.5, 0), (0.5, 1)])
    for text in axes.texts:
        assert not text.get_window_extent(renderer).overlaps(Bbox(ends).padded(3))


# Machado, Oliveira and Fernandes 2009, severity 1.0: what a dichromat sees of linear RGB.
SEEN_BY = {
    "everybody else": np.eye(3),
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopes": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def _lab(colour, matrix):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (np.array(matrix) @ linear).clip(0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(back[None, None])[0, 0]


def test_every_method_has_a_look_of_its_own():
    assert set(STYLES) == {"automix", "vanilla", "random", *mixups.POLICIES}
    assert len({(style.line, style.marker) for style in STYLES.values()}) == len(STYLES)
    assert {name: style.colour for name, style in STYLES.items()} == COLOURS
    for one, two in combinations(STYLES.values(), 2):
        everybody = deltaE_ciede2000(_lab(one.colour, np.eye(3)), _lab(two.colour, np.eye(3)))
        assert everybody > 10, (one, two)
        for who, matrix in SEEN_BY.items():
            apart = deltaE_ciede2000(_lab(one.colour, matrix), _lab(two.colour, matrix))
            assert apart > 10 or one.line != two.line, (who, one, two)


def test_names_of_no_method_are_black_and_differ():
    styles = styles_of(["AutoMix", "own 1", "cutmix", "own 2", *map(str, range(20))])
    assert styles["AutoMix"] == STYLES["automix"]
    assert styles["cutmix"] == STYLES["cutmix"]
    others = [style for name, style in styles.items() if name not in ("AutoMix", "cutmix")]
    assert {style.colour for style in others} == {"#000000"}
    assert len(set(others)) == 22


def test_curves_are_drawn_in_the_methods_looks():
    entries = [{"step": 1, "total": 2.0, "ce": 2.0}, {"step": 2, "epoch": 1, "elapsed": 1.0, "model_top1": 50.0}]
    figure = draw_curves({"fmix": entries, "mine": entries}, {"fmix": "model", "mine": "model"})
    for axes in figure.axes:
        assert [line.get_color() for line in axes.lines] == [COLOURS["fmix"], "#000000"]
    assert [line.get_marker() for line in figure.axes[1].lines] == [STYLES["fmix"].marker, "*"]


def test_a_png_is_small_and_looks_the_same(tmp_path):
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    axes.imshow(np.random.default_rng(0).random((40, 40)), cmap="viridis")
    save_png(figure, tmp_path / "made" / "picture.png")
    figure.savefig(tmp_path / "plain.png", dpi=100)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["picture.png"]
    with Image.open(tmp_path / "made/picture.png") as small, Image.open(tmp_path / "plain.png") as plain:
        assert small.mode == "P"
        assert small.size == plain.size == (200, 200)
        apart = np.asarray(small.convert("RGB")).astype(int) - np.asarray(plain.convert("RGB"))
    assert np.abs(apart).mean() < 4
    assert (tmp_path / "made/picture.png").stat().st_size < 0.6 * (tmp_path / "plain.png").stat().st_size
