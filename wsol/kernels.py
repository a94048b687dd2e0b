"""The best box of a score map at every level, in one pass over its pixels; compiled by numba.

The foreground of a level L is what lies strictly above it. As L falls, the foreground only grows: pixels are added
from the highest to the lowest, and a union-find over 8 neighbours carries the bounding box of each component. The boxes
of holes need one fact more, the level at which a pixel *opens*: the lowest L at which it is background and connected to
the outside over 4 neighbours, which is the least, over all ways out, of the highest pixel on the way. One flood from
the border finds it. A pixel of value v belongs to a hole at v <= L < opens, and all pixels of a hole open together, so
that holes grow as L rises, over 4 neighbours, until they open.

Where the largest contour alone counts (the first version of MaxBoxAcc), holes are filled first, which is to take the
opening levels for the values. The polygon through the border pixels of a component then gains half a pixel of area at
the third and at the fourth pixel of each block of 2x2; the pixels of a block are neighbours, so of one component.

`wsol.contours` traces the contours of every level with OpenCV, which is slower and finds the same.

All of it stands in one file: numba keeps the machine code of a function for as long as that function's own file is the
same, and would not see a change in another. Functions are small enough to be inlined by the compiler; with one for all
that is done to add a pixel, a map took three times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from wsol.boxes import LEVELS

try:
    import numba

    AVAILABLE = True
except ImportError:  # a Python that numba does not support yet
    AVAILABLE = False

LONGEST_SIDE = 2**15 - 1  # four coordinates to a number of 64 bits
ABSENT = -1  # the parent of a pixel that was not added yet
# What is kept of a component: its first and last pixel in raster order, which give its rows; its first and last column;
# the number of its pixels; twice the area of the polygon through its border.
FIRST, LAST, LEFT, RIGHT, COUNT, AREA = range(NODE := 6)
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers, free of the interpreter's lock; as it is where numba is missing.

    The machine code is kept on disk, so that only the first run on a machine compiles.
    """
    if not AVAILABLE:
        return function
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # numba found no folder that it may write to
        return cast(Function, numba.njit(nogil=True)(function))


def best_boxes(
    pixels: npt.NDArray[np.uint8], wanted: npt.NDArray[np.bool_], true: npt.NDArray[np.float64], largest: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the best IoU of any estimated box with any true one at each wanted level, and that box.

    Args:
        pixels: (H, W) uint8, no side above `LONGEST_SIDE`.
        wanted: (256,) bool, the levels in question.
        true: (n, 4) float64, the true boxes x0, y0, x1, y1 in pixels, both corners inside.
        largest: Whether the contour of the largest area alone gives a box; otherwise every contour does.

    Returns:
        (256,) float64, and (256, 4) int64 with x0, y0, x1, y1; of boxes with the same IoU the first in order of
        coordinates. Where no pixel lies above the level the box is 0, 0, 0, 0. Levels not wanted hold 0.
    """
    iou, keys = _best(np.pad(pixels, 1), wanted, true, largest)
    return iou, np.stack([(keys >> shift) & 0xFFFF for shift in (48, 32, 16, 0)], axis=1)


@compiled
def _best(
    padded: npt.NDArray[np.uint8], wanted: npt.NDArray[np.bool_], true: npt.NDArray[np.float64], largest: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Do the work of `best_boxes` on a map with a border of one pixel; a box is one number of 4 x 16 bits here."""
    iou, keys = np.zeros(LEVELS), np.zeros(LEVELS, dtype=np.int64)
    iou[wanted] = _iou(0, true)
    opens = _opening_levels(padded)
    if largest:
        _components(opens, True, wanted, true, iou, keys)
    else:
        _components(padded, False, wanted, true, iou, keys)
        _holes(padded, opens, wanted, true, iou, keys)
    return iou, keys


@compiled
def _opening_levels(padded: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the opening level of every pixel of a padded map, in its shape; the border's own is 0."""
    height, width = padded.shape
    values = padded.ravel()
    border = np.ones(padded.shape, dtype=np.bool_)
    border[1:-1, 1:-1] = False
    opens, seen = np.zeros(len(values), dtype=np.uint8), border.ravel()
    # A stack of pixels for each level, as a linked list: its last pixel, and the one below each pixel.
    last, below = np.full(LEVELS, ABSENT, dtype=np.int32), np.empty(len(values), dtype=np.int32)
    for row in range(1, height - 1):
        step = 1 if row in (1, height - 2) else max(width - 3, 1)  # whole rows at top and bottom, else both ends
        for pixel in range(row * width + 1, (row + 1) * width - 1, step):
            seen[pixel], opens[pixel] = True, values[pixel]
            below[pixel], last[values[pixel]] = last[values[pixel]], pixel
    for level in range(LEVELS):
        while last[level] != ABSENT:
            pixel = last[level]
            last[level] = below[pixel]
            for step in (-width, -1, 1, width):
                other = pixel + step
                if not seen[other]:
                    at = max(values[other], level)
                    seen[other], opens[other] = True, at
                    below[other], last[at] = last[at], other
    return opens.reshape(padded.shape)


@compiled
def _components(
    padded: npt.NDArray[np.uint8],
    largest: bool,
    wanted: npt.NDArray[np.bool_],
    true: npt.NDArray[np.float64],
    iou: npt.NDArray[np.float64],
    keys: npt.NDArray[np.int64],
) -> None:
    """Take the best of the components' boxes at each wanted level, or the box of the largest component."""
    width, values = padded.shape[1], padded.ravel()
    order, starts = _in_order(values)
    parent, nodes, cached, live = _forest(len(values))
    columns = _columns(padded.shape)
    count = 0
    for level in range(LEVELS - 1, -1, -1):
        if wanted[level] and count:
            count = _forget_joined(parent, live, count)
            if largest:
                chosen = live[0]
                for root in live[1:count]:
                    if (nodes[root, AREA], nodes[root, FIRST]) > (nodes[chosen, AREA], nodes[chosen, FIRST]):
                        chosen = root
                keys[level] = _key(nodes[chosen], padded.shape, 0)
                iou[level] = _iou(keys[level], true)
            else:
                iou[level] = -1.0  # any component beats the box that stands for none
                _take_best(nodes, cached, live[:count], padded.shape, 0, true, level, iou, keys)
        if level == 0:
            break
        for pixel in order[starts[level] : starts[level + 1]]:
            north, south = parent[pixel - width] != ABSENT, parent[pixel + width] != ABSENT
            west, east = parent[pixel - 1] != ABSENT, parent[pixel + 1] != ABSENT
            corner = (
                parent[pixel - width - 1] != ABSENT,
                parent[pixel - width + 1] != ABSENT,
                parent[pixel + width - 1] != ABSENT,
                parent[pixel + width + 1] != ABSENT,
            )
            # Neighbours that are neighbours of one another are of one component already.
            root = ABSENT
            if north:
                root = _join(parent, nodes, root, pixel - width)
            if south:
                root = _join(parent, nodes, root, pixel + width)
            if not (north or south):
                if west:
                    root = _join(parent, nodes, root, pixel - 1)
                if east:
                    root = _join(parent, nodes, root, pixel + 1)
            if corner[0] and not (north or west):
                root = _join(parent, nodes, root, pixel - width - 1)
            if corner[1] and not (north or east):
                root = _join(parent, nodes, root, pixel - width + 1)
            if corner[2] and not (south or west):
                root = _join(parent, nodes, root, pixel + width - 1)
            if corner[3] and not (south or east):
                root = _join(parent, nodes, root, pixel + width + 1)
            if root == ABSENT:
                root = pixel
                live[count] = root
                count += 1
                _plant(parent, nodes, root, columns[pixel])
            _grow(parent, nodes, root, pixel, columns[pixel])
            cached[root] = -1.0
            if largest:
                nodes[root, AREA] += (
                    (int(north) + int(west) + int(corner[0]) >= 2)
                    + (int(north) + int(east) + int(corner[1]) >= 2)
                    + (int(south) + int(west) + int(corner[2]) >= 2)
                    + (int(south) + int(east) + int(corner[3]) >= 2)
                )


@compiled
def _holes(
    padded: npt.NDArray[np.uint8],
    opens: npt.NDArray[np.uint8],
    wanted: npt.NDArray[np.bool_],
    true: npt.NDArray[np.float64],
    iou: npt.NDArray[np.float64],
    keys: npt.NDArray[np.int64],
) -> None:
    """Take the best of the holes' boxes at each wanted level, where it beats the best that is known."""
    width, values, until = padded.shape[1], padded.ravel(), opens.ravel()
    order, starts = _in_order(values)
    parent, nodes, cached, live = _forest(len(values))
    columns = _columns(padded.shape)
    count = 0
    for level in range(LEVELS):
        for pixel in order[starts[level] : starts[level + 1]]:
            if until[pixel] <= level:
                continue  # never part of a hole
            root = ABSENT
            for step in (-width, -1, 1, width):
                if parent[pixel + step] != ABSENT:
                    root = _join(parent, nodes, root, pixel + step)
            if root == ABSENT:
                root = pixel
                live[count] = root
                count += 1
                _plant(parent, nodes, root, columns[pixel])
            _grow(parent, nodes, root, pixel, columns[pixel])
            cached[root] = -1.0
        if wanted[level] and count:
            count = _forget_joined(parent, live, count)
            closed = 0
            for root in live[:count]:
                if until[root] > level:
                    live[closed] = root
                    closed += 1
            count = closed
            _take_best(nodes, cached, live[:count], padded.shape, 1, true, level, iou, keys)


@compiled
def _in_order(values: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the pixels sorted by value, and where each value begins, (257,)."""
    starts = np.zeros(LEVELS + 1, dtype=np.int64)
    for value in values:
        starts[value + 1] += 1
    for value in range(LEVELS):
        starts[value + 1] += starts[value]
    place, order = starts.copy(), np.empty(len(values), dtype=np.int32)
    for pixel in range(len(values)):
        order[place[values[pixel]]] = pixel
        place[values[pixel]] += 1
    return order, starts


@compiled
def _columns(shape: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Return the column of every pixel; looked up, because a division takes longer."""
    columns = np.empty(shape, dtype=np.int32)
    columns[:] = np.arange(shape[1])
    return columns.ravel()


@compiled
def _forest(
    size: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Return a parent for each pixel, and room for each root's node and IoU (below 0: not known) and for a list."""
    parent = np.full(size, ABSENT, dtype=np.int32)
    return parent, np.empty((size, NODE), dtype=np.int32), np.empty(size), np.empty(size, dtype=np.int32)


@compiled
def _plant(parent: npt.NDArray[np.int32], nodes: npt.NDArray[np.int32], pixel: int, column: int) -> None:
    """Begin a component."""
    parent[pixel] = pixel
    node = nodes[pixel]
    node[FIRST], node[LAST], node[LEFT], node[RIGHT], node[COUNT], node[AREA] = pixel, pixel, column, column, 0, 0


@compiled
def _grow(parent: npt.NDArray[np.int32], nodes: npt.NDArray[np.int32], root: int, pixel: int, column: int) -> None:
    """Add a pixel to a component."""
    parent[pixel] = root
    node = nodes[root]
    node[FIRST], node[LAST] = min(node[FIRST], pixel), max(node[LAST], pixel)
    node[LEFT], node[RIGHT] = min(node[LEFT], column), max(node[RIGHT], column)
    node[COUNT] += 1


@compiled
def _join(parent: npt.NDArray[np.int32], nodes: npt.NDArray[np.int32], root: int, pixel: int) -> int:
    """Join the component of a pixel to another, given by its root, or to nothing; return the root of both."""
    other = pixel
    while parent[other] != other:
        parent[other] = parent[parent[other]]
        other = parent[other]
    if root in (ABSENT, other):
        return other
    if nodes[root, COUNT] < nodes[other, COUNT]:
        root, other = other, root
    parent[other] = root
    node, gone = nodes[root], nodes[other]
    node[FIRST], node[LAST] = min(node[FIRST], gone[FIRST]), max(node[LAST], gone[LAST])
    node[LEFT], node[RIGHT] = min(node[LEFT], gone[LEFT]), max(node[RIGHT], gone[RIGHT])
    node[COUNT] += gone[COUNT]
    node[AREA] += gone[AREA]
    return root


@compiled
def _forget_joined(parent: npt.NDArray[np.int32], live: npt.NDArray[np.int32], count: int) -> int:
    """Keep those of the first `count` of a list that are roots still, and return how many these are."""
    kept = 0
    for root in live[:count]:
        if parent[root] == root:
            live[kept] = root
            kept += 1
    return kept


@compiled
def _take_best(
    nodes: npt.NDArray[np.int32],
    cached: npt.NDArray[np.float64],
    live: npt.NDArray[np.int32],
    shape: tuple[int, int],
    rim: int,
    true: npt.NDArray[np.float64],
    level: int,
    iou: npt.NDArray[np.float64],
    keys: npt.NDArray[np.int64],
) -> None:
    """Take the best box of the live components, where it beats the best of the level so far."""
    for root in live:
        if cached[root] < 0:
            cached[root] = _iou(_key(nodes[root], shape, rim), true)
        if cached[root] >= iou[level]:
            key = _key(nodes[root], shape, rim)
            if cached[root] > iou[level] or key < keys[level]:
                iou[level], keys[level] = cached[root], key


@compiled
def _key(node: npt.NDArray[np.int32], shape: tuple[int, int], rim: int) -> np.int64:
    """Return a component's box, a rim of so many pixels about it, as x0, y0, x1, y1 of 16 bits each.

    The far corner is one past the last pixel, but inside the map. Node and shape are of the padded map.
    """
    height, width = shape
    x0, y0 = node[LEFT] - 1 - rim, node[FIRST] // width - 1 - rim
    x1, y1 = min(node[RIGHT] + rim, width - 3), min(node[LAST] // width + rim, height - 3)
    return (np.int64(x0) << 48) | (np.int64(y0) << 32) | (np.int64(x1) << 16) | np.int64(y1)


@compiled
def _iou(key: np.int64 | int, true: npt.NDArray[np.float64]) -> float:
    """Return the best IoU of a box with any true one; both corners lie inside a box."""
    x0, y0, x1, y1 = float(key >> 48), float((key >> 32) & 0xFFFF), float((key >> 16) & 0xFFFF), float(key & 0xFFFF)
    area, best = (x1 - x0 + 1) * (y1 - y0 + 1), 0.0
    for row in range(len(true)):
        u0, v0, u1, v1 = true[row]
        wide, high = min(x1, u1) - max(x0, u0) + 1, min(y1, v1) - max(y0, v0) + 1
        if wide > 0 and high > 0:
            overlap = wide * high
            best = max(best, overlap / (area + (u1 - u0 + 1) * (v1 - v0 + 1) - overlap))
    return best
