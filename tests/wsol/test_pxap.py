"""PxAP against its definition by np.histogram and cumulative sums, and on sets whose average precision is known."""

from __future__ import annotations

import bisect
import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol import pxap
from wsol.pxap import PxAP

INTERVALS = [0.001, 0.01, 0.07, 0.1, 0.3, 1 / 3, 0.5, 0.7, 1 / 49, 1.0]
SIDE = 24


def edges_of(interval: float) -> np.ndarray:
    return np.concatenate([np.arange(0, 1, interval), [1.0, 2.0, 3.0]])


def histograms_by_definition(score_map: np.ndarray, mask: np.ndarray, interval: float) -> np.ndarray:
    return np.array([np.histogram(score_map[mask == value], bins=edges_of(interval))[0] for value in (1, 0)])


def area_by_definition(histograms: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """In floating point throughout, from the highest score down, as the reference counts."""
    above = np.cumsum(histograms.astype(np.float64)[:, ::-1], axis=1)
    total = histograms[0].astype(np.float64).sum()
    with np.errstate(invalid="ignore"):
        precision = above[0] / (above[0] + above[1])
    recall = above[0] / (above[0] + (total - above[0]))
    steps = precision[1:] * (recall[1:] - recall[:-1])
    return steps[above.sum(axis=0)[1:] != 0].sum() * 100, precision, recall


def random_map(rng: np.random.Generator, kind: int) -> np.ndarray:
    noise = rng.random((SIDE, SIDE))
    return [
        noise,
        np.round(noise, 2),  # many scores on an edge
        np.round(noise * 255) / 255,
        (noise - noise.min()) / (noise.max() - noise.min()),  # 0 and 1 among them
        np.full((SIDE, SIDE), rng.random()),
        np.zeros((SIDE, SIDE)),
        np.ones((SIDE, SIDE)),
        rng.choice(edges_of(0.01)[:-2], (SIDE, SIDE)),
        noise**8,
    ][kind]


def random_mask(rng: np.random.Generator, kind: int) -> np.ndarray:
    mask = rng.choice([0, 1, 255], (SIDE, SIDE), p=[0.6, 0.3, 0.1]).astype(np.uint8)
    if kind == 0:
        mask[:] = 255
    if kind == 1:
        mask[mask == 1] = 0
    if kind == 2:
        mask[mask == 0] = 1
    return mask


def set_of_images(seed: int, count: int = 36) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(random_map(rng, index % 9), random_mask(rng, index % 7)) for index in range(count)]


@pytest.fixture(params=["compiled", "numpy"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to count: by the compiled loop, and by NumPy as where numba is missing."""
    if request.param == "numpy":
        monkeypatch.setattr(pxap, "AVAILABLE", False)
        monkeypatch.setattr(pxap, "_count_pixels", None)
    elif not pxap.AVAILABLE:
        pytest.skip("numba is missing")


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("interval", INTERVALS)
def test_equals_the_definition_to_the_last_bit(interval: float) -> None:
    metric = PxAP(interval)
    expected = np.zeros((2, len(edges_of(interval)) - 1), dtype=np.int64)
    for index, (score_map, mask) in enumerate(set_of_images(seed=1)):
        one = histograms_by_definition(score_map, mask, interval)
        expected += one
        found = metric.update(score_map, mask)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, one, err_msg=f"image {index}")
        if expected[0].sum():
            area, precision, recall = area_by_definition(expected)
            result = metric.compute()
            assert result.pxap == area
            np.testing.assert_array_equal(result.precision, precision[::-1])
            np.testing.assert_array_equal(result.recall, recall[::-1])
    result = metric.compute()
    assert result.images == 36
    np.testing.assert_array_equal(result.thresholds, edges_of(interval)[:-1])


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_of_a_single_image_is_the_reference_s_to_the_last_bit(seed: int) -> None:
    for score_map, mask in set_of_images(seed + 100):
        if (mask == 1).any():
            metric = PxAP(0.001)
            metric.update(score_map, mask)
            assert metric.compute().pxap == area_by_definition(histograms_by_definition(score_map, mask, 0.001))[0]


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("interval", [*INTERVALS, 0.0001, 0.003, 0.9999999])
def test_no_score_at_an_edge_or_beside_it_falls_into_the_wrong_bin(interval: float) -> None:
    edges = edges_of(interval)
    at = edges[:-2]  # 0, ..., 1
    metric = PxAP(interval)
    # Hardly a bin gets two scores of one row, so that two errors cannot make up for one another.
    for scores in (at, np.nextafter(at, 2)[:-1], np.nextafter(at, -1)[1:]):
        bins = [bisect.bisect_right(edges, score) - 1 for score in scores]
        for row, value in enumerate([1, 0]):
            found = metric.histograms(scores[None], np.full((1, len(scores)), value, dtype=np.uint8))
            np.testing.assert_array_equal(found[row], np.bincount(bins, minlength=len(edges) - 1))
            assert not found[1 - row].any()
    assert metric.histograms(np.array([[-0.0, 5e-324]]), np.ones((1, 2), dtype=np.uint8))[0, 0] == 2


@settings(max_examples=200)
@given(
    st.data(),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    st.one_of(st.sampled_from(INTERVALS), st.floats(0.0005, 1.0)),
)
def test_histograms_are_numpy_s(data: st.DataObject, shape: tuple[int, int], interval: float) -> None:
    near_an_edge = st.sampled_from(edges_of(interval)[:-2].tolist()).filter(lambda edge: edge <= 1)
    score_map = data.draw(hnp.arrays(np.float64, shape, elements=st.one_of(st.floats(0, 1), near_an_edge)))
    mask = data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255])))
    found = PxAP(interval).histograms(score_map, mask)
    np.testing.assert_array_equal(found, histograms_by_definition(score_map, mask, interval))


def test_views_are_read_in_their_own_order() -> None:
    rng = np.random.default_rng(0)
    score_map, mask = rng.random((SIDE, 2 * SIDE)), random_mask(rng, 3)
    turned, every_other = score_map[:, :SIDE].T, score_map[:, ::2]
    turned.flags.writeable = False
    for view in (turned, every_other):
        np.testing.assert_array_equal(
            PxAP(0.01).histograms(view, mask.T), histograms_by_definition(view.copy(), mask.T.copy(), 0.01)
        )


def half(inside: float, outside: float) -> tuple[np.ndarray, np.ndarray]:
    """A map of two scores, and the mask of its upper quarter."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[: SIDE // 4] = 1
    return np.where(mask == 1, inside, outside), mask


@pytest.mark.parametrize(
    ("inside", "outside", "expected"),
    [
        (1.0, 0.0, 100.0),  # the map is the mask
        (0.7, 0.2, 100.0),  # any map that orders the pixels so
        (0.0, 1.0, 25.0),  # inverted: the objects come last, when all pixels are predicted
        (0.4, 0.4, 25.0),  # constant: the share of object pixels
        (0.0, 0.0, 25.0),
        (1.0, 1.0, 25.0),
        (0.3001, 0.3009, 25.0),  # the same bin of 0.001
        (0.301, 0.3009, 100.0),  # one bin higher
    ],
)
def test_known_average_precision(inside: float, outside: float, expected: float) -> None:
    metric = PxAP()
    metric.update(*half(inside, outside))
    assert metric.compute().pxap == expected


def test_by_hand() -> None:
    # From the top: one of two objects among 1 pixel, still one among 2, both among 4. Area: 1 * 1/2 + 2/4 * 1/2.
    score_map = np.array([[0.9, 0.7, 0.5], [0.5, 0.8, 0.1]])
    mask = np.array([[1, 0, 1], [0, 255, 255]], dtype=np.uint8)
    metric = PxAP(0.2)
    counts = metric.update(score_map, mask)
    assert counts.tolist() == [[0, 0, 1, 0, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0]]
    result = metric.compute()
    assert result.pxap == 75.0
    np.testing.assert_allclose(result.thresholds, [0, 0.2, 0.4, 0.6, 0.8, 1, 2])
    assert result.recall.tolist() == [1, 1, 1, 0.5, 0.5, 0, 0]
    assert result.precision.tolist()[:5] == [0.5, 0.5, 0.5, 0.5, 1]
    assert np.isnan(result.precision[5:]).all()


def test_the_score_1_has_a_bin_of_its_own_and_counts() -> None:
    counts = PxAP(0.5).histograms(np.array([[1.0, np.nextafter(1, 0)]]), np.array([[1, 1]], dtype=np.uint8))
    assert counts.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]


def test_pixels_are_pooled_over_images_before_the_curve() -> None:
    # Each image alone is perfect; together the background of one outranks the objects of the other.
    metric = PxAP()
    metric.update(*half(1.0, 0.6))
    metric.update(*half(0.4, 0.2))
    quarter, whole = SIDE * SIDE // 4, SIDE * SIDE
    assert metric.compute().pxap == pytest.approx(100 * (0.5 + 0.5 * 2 * quarter / (whole + quarter)))


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_set_in_parts_adds_up(parts: int) -> None:
    images = set_of_images(seed=5)
    whole, total = PxAP(0.01), PxAP(0.01)
    for score_map, mask in images:
        whole.update(score_map, mask)
    for start in range(parts):
        part = PxAP(0.01)
        for score_map, mask in images[start::parts]:
            part.add(part.histograms(score_map, mask))
        total.counts += part.counts
        total.images += part.images
    assert total.counts.dtype == np.int64
    assert total.compute().pxap == whole.compute().pxap
    assert total.compute().images == len(images)


def test_histograms_alone_count_nothing() -> None:
    metric = PxAP(0.1)
    metric.histograms(*half(0.5, 0.1))
    assert metric.images == 0
    assert not metric.counts.any()


@pytest.mark.parametrize("masks", [[], [0], [255], [0, 255]])
def test_without_an_object_there_is_no_figure(masks: list[int]) -> None:
    metric = PxAP(0.1)
    for value in masks:
        metric.update(np.full((3, 4), 0.5), np.full((3, 4), value, dtype=np.uint8))
    with pytest.raises(RuntimeError, match="no positive ground truth"):
        metric.compute()


def test_large_counts_stay_exact() -> None:
    metric = PxAP(0.5)
    metric.add(np.array([[2**40 + 1, 2**40, 0, 0], [2**41, 1, 0, 0]]))
    assert metric.compute().pxap == area_by_definition(metric.counts)[0]
    assert metric.counts.tolist() == [[2**40 + 1, 2**40, 0, 0], [2**41, 1, 0, 0]]


def test_histograms_of_another_interval_are_refused() -> None:
    metric = PxAP(0.1)
    for shape in [(2, 1), (12,), (2, 11)]:
        with pytest.raises(ValueError, match=r"\(2, 12\)"):
            metric.add(np.ones(shape, dtype=np.int64))
    assert metric.images == 0


GOOD_MAP, GOOD_MASK = np.full((4, 4), 0.5), np.ones((4, 4), dtype=np.uint8)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    ("score_map", "mask", "error", "words"),
    [
        (GOOD_MAP.astype(np.float32), GOOD_MASK, TypeError, "float64, not float32"),
        (GOOD_MAP.tolist(), GOOD_MASK, TypeError, "numpy array, not list"),
        (np.full((4, 4), np.nan), GOOD_MASK, ValueError, "NaN"),
        (GOOD_MAP + 0.6, GOOD_MASK, ValueError, r"in \[0, 1\]"),
        (GOOD_MAP - 0.6, GOOD_MASK, ValueError, r"in \[0, 1\]"),
        (GOOD_MAP[None], GOOD_MASK, ValueError, r"not \(1, 4, 4\)"),
        (GOOD_MAP, GOOD_MASK.tolist(), TypeError, "mask must be a numpy array, not list"),
        (GOOD_MAP, GOOD_MASK.astype(bool), TypeError, "uint8, not bool"),
        (GOOD_MAP, GOOD_MASK.astype(np.int64), TypeError, "uint8, not int64"),
        (GOOD_MAP, GOOD_MASK[:2], ValueError, r"\(2, 4\), and its score map \(4, 4\)"),
        (GOOD_MAP, GOOD_MASK.reshape(2, 8), ValueError, r"\(2, 8\), and its score map \(4, 4\)"),
        (GOOD_MAP, GOOD_MASK * 2, ValueError, "not 2"),
        (GOOD_MAP, GOOD_MASK * 254, ValueError, "not 254"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_counted(
    score_map: np.ndarray, mask: np.ndarray, error: type[Exception], words: str
) -> None:
    metric = PxAP(0.1)
    with pytest.raises(error, match=words):
        metric.update(score_map, mask)
    assert metric.images == 0
    assert not metric.counts.any()


@pytest.mark.parametrize("interval", [0, -0.1, 1.5, float("nan")])
def test_a_wrong_interval_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        PxAP(interval)


def test_the_example_of_the_docstring_is_right() -> None:
    [example] = (
        found for found in doctest.DocTestFinder().find(PxAP, globs={"np": np, "PxAP": PxAP}) if found.examples
    )
    assert doctest.DocTestRunner().run(example) == (0, 3)
