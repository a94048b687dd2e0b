"""Cuts against brute force and against a linear program."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import linprog

from pretrain.mixups.graph_cut import binary_cut, convex_cut


def _problem(seed, n, labels, h, w, coupling=1.0):
    rng = np.random.default_rng(seed)
    slopes = np.sort(rng.normal(size=(n, labels - 1, h, w)), axis=1)
    unary = np.concatenate([np.zeros((n, 1, h, w)), np.cumsum(slopes, axis=1)], axis=1) + rng.normal(size=(n, 1, h, w))
    return unary, coupling * rng.random((n, h - 1, w)), coupling * rng.random((n, h, w - 1))


def _energy(unary, down, right, labelling):
    step = labelling / (unary.shape[1] - 1)
    cells = np.take_along_axis(unary, labelling[:, None], axis=1).sum((1, 2, 3))
    smooth = (down * np.diff(step, axis=1) ** 2).sum((1, 2)) + (right * np.diff(step, axis=2) ** 2).sum((1, 2))
    return cells + smooth


def _brute_force(unary, down, right):
    n, labels, h, w = unary.shape
    every = np.array(list(itertools.product(range(labels), repeat=h * w))).reshape(-1, h, w)
    best = []
    for k in range(n):
        parts = (np.broadcast_to(part[k], (len(every), *part[k].shape)) for part in (unary, down, right))
        best.append(every[_energy(*parts, every).argmin()])
    return np.array(best)


@pytest.mark.parametrize(
    ("labels", "h", "w", "coupling"),
    [(3, 3, 3, 0.3), (3, 3, 3, 1.0), (3, 3, 3, 4.0), (3, 2, 4, 1.0), (3, 1, 7, 2.0), (2, 3, 4, 1.0), (4, 2, 3, 2.0)],
)
def test_labels_are_those_of_brute_force(labels, h, w, coupling):
    problem = _problem(labels * h, 6, labels, h, w, coupling)
    assert_array_equal(convex_cut(*problem), _brute_force(*problem))


def _linear_program(unary, down, right):
    """Least energy of one grid: convex costs as the maximum of lines, an LP whose corners are whole labels."""
    labels, h, w = unary.shape
    cells = np.arange(h * w).reshape(h, w)
    pairs = np.array([*zip(cells[:-1].ravel(), cells[1:].ravel()), *zip(cells[:, :-1].ravel(), cells[:, 1:].ravel())])
    weights = np.concatenate([down.ravel(), right.ravel()]) / (labels - 1) ** 2
    n, m = h * w, len(pairs)
    label, cost = np.eye(n, 2 * n + m), np.eye(n, 2 * n + m, n)
    square = np.eye(m, 2 * n + m, 2 * n)
    difference = label[pairs[:, 0]] - label[pairs[:, 1]]
    rows, bounds = [], []
    for k in range(labels - 1):
        slope = (unary[k + 1] - unary[k]).ravel()
        rows.append(slope[:, None] * label - cost)
        bounds.append(slope * k - unary[k].ravel())
        for sign in (1, -1):  # between k and k + 1 the line through k^2 and (k + 1)^2
            rows.append(sign * (2 * k + 1) * difference - square)
            bounds.append(np.full(m, k * (k + 1.0)))
    goal = np.concatenate([np.zeros(n), np.ones(n), weights])
    limits = [(0, labels - 1)] * n + [(None, None)] * n + [(0, None)] * m
    return linprog(goal, sparse.csr_array(np.concatenate(rows)), np.concatenate(bounds), bounds=limits).fun


@pytest.mark.parametrize(("labels", "h", "w"), [(3, 5, 5), (3, 4, 7), (5, 5, 5)])
def test_energy_is_that_of_a_linear_program(labels, h, w):
    problem = _problem(labels + h, 4, labels, h, w, coupling=2.0)
    expected = [_linear_program(*(part[k] for part in problem)) for k in range(4)]
    assert_allclose(_energy(*problem, convex_cut(*problem)), expected, rtol=1e-7)


def test_a_cut_is_no_worse_than_any_constant():
    problem = _problem(0, 8, 3, 16, 16, coupling=0.5)
    energy = _energy(*problem, convex_cut(*problem))
    for label in range(3):
        assert (energy <= _energy(*problem, np.full((8, 16, 16), label)) + 1e-6).all()


def test_images_of_a_batch_do_not_touch_and_keep_their_own_scale():
    problem = _problem(1, 3, 3, 8, 8)
    scaled = [part * np.array([1e-9, 1.0, 1e9]).reshape(3, *[1] * (part.ndim - 1)) for part in problem]
    each = np.concatenate([convex_cut(*(part[k : k + 1] for part in problem)) for k in range(3)])
    assert_array_equal(convex_cut(*scaled), each)


def test_no_weights_and_endless_weights():
    unary, down, right = _problem(2, 4, 3, 5, 6)
    assert_array_equal(convex_cut(unary, 0 * down, 0 * right), unary.argmin(1))
    constant = convex_cut(unary, down + 1e12, right + 1e12)
    assert_array_equal(constant, np.broadcast_to(unary.sum((2, 3)).argmin(1)[:, None, None], constant.shape))


def test_a_binary_cut_is_a_cut_of_two_labels():
    unary, down, right = _problem(3, 4, 2, 6, 5)
    assert_array_equal(binary_cut(unary[:, 1] - unary[:, 0], down, right), convex_cut(unary, down, right))


def test_inputs_are_not_modified():
    problem = _problem(4, 2, 3, 4, 4)
    before = [part.copy() for part in problem]
    convex_cut(*problem)
    for part, was in zip(problem, before):
        assert_array_equal(part, was)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda unary, down, right: (-(unary**2), down, right), "not convex"),
        (lambda unary, down, right: (unary, -down, right), "negative"),
        (lambda unary, down, right: (unary * np.nan, down, right), "finite"),
        (lambda unary, down, right: (unary, right, down), "do not fit"),
    ],
)
def test_what_cannot_be_cut(spoil, message):
    unary = np.zeros((1, 3, 2, 3))
    unary[:, 1] = -1
    unary[:, 2] = 2
    with pytest.raises(ValueError, match=message):
        convex_cut(*spoil(unary, np.ones((1, 1, 3)), np.ones((1, 2, 2))))
