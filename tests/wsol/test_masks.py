"""Masks against an index formula for the nearest pixel, and the bad files a set may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.console import UserError
from wsol.masks import read_mask


def save(path: Path, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(path)
    return path.name


def nearest(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """floor(x * scale), where the scale is the inverse of a rounded quotient; at the far side the last pixel."""

    def sources(old: int, new: int) -> np.ndarray:
        return np.array([min(int(np.floor(index * (1 / (new / old)))), old - 1) for index in range(new)])

    return pixels[sources(pixels.shape[0], height)][:, sources(pixels.shape[1], width)]


@pytest.mark.parametrize("width", [1, 5, 36, 58, 63, 200, 223, 224, 225, 300, 448, 500, 683])
@pytest.mark.parametrize(("new_width", "new_height"), [(224, 224), (225, 112), (7, 9)])
def test_a_mask_is_resized_to_the_nearest_pixel(tmp_path: Path, width: int, new_width: int, new_height: int) -> None:
    rng = np.random.default_rng(width)
    first, second, ignore = (rng.integers(0, 4, (257 - width // 4, width)) == 0 for _ in range(3))
    names = [save(tmp_path / f"{n}.png", mask.astype(np.uint8) * 255) for n, mask in enumerate((first, second))]
    ignore_name = save(tmp_path / "ignore.png", ignore)  # 1 bit a pixel, as OpenImages' masks are
    found = read_mask(tmp_path, names, ignore_name, (new_width, new_height))
    foreground = nearest(first, new_width, new_height) | nearest(second, new_width, new_height)
    expected = np.where(foreground, 1, np.where(nearest(ignore, new_width, new_height), 255, 0))
    assert found.dtype == np.uint8
    assert found.shape == (new_height, new_width)
    np.testing.assert_array_equal(found, expected)


def test_nearest_is_the_floor_and_not_the_middle(tmp_path: Path) -> None:
    # 10 columns to 4: columns 0, 2, 5 and 7, where Pillow would take 1, 3, 6 and 8.
    for column, expected in [(0, [1, 0, 0, 0]), (2, [0, 1, 0, 0]), (5, [0, 0, 1, 0]), (7, [0, 0, 0, 1]), (8, [0] * 4)]:
        name = save(tmp_path / "mask.png", (np.arange(10) == column).astype(np.uint8)[None] * 255)
        assert read_mask(tmp_path, [name], "", (4, 1)).tolist() == [expected]


def test_any_grey_above_0_is_object(tmp_path: Path) -> None:
    name = save(tmp_path / "mask.png", np.array([[0, 1, 2, 127, 255]], dtype=np.uint8))
    assert read_mask(tmp_path, [name], "", (5, 1)).tolist() == [[0, 1, 1, 1, 1]]


def test_instances_are_joined_and_go_before_what_is_ignored(tmp_path: Path) -> None:
    rows = {"one.png": [255, 0, 0, 0, 255], "two.png": [0, 255, 0, 0, 255], "ignore.png": [255, 0, 255, 0, 255]}
    (tmp_path / "a").mkdir()
    for name, row in rows.items():
        save(tmp_path / "a" / name, np.array([row], dtype=np.uint8))
    masks = ["a/one.png", "a/two.png"]
    assert read_mask(tmp_path, masks, "a/ignore.png", (5, 1)).tolist() == [[1, 1, 255, 0, 1]]
    assert read_mask(tmp_path, masks[::-1], "a/ignore.png", (5, 1)).tolist() == [[1, 1, 255, 0, 1]]
    assert read_mask(str(tmp_path), tuple(masks), "", (5, 1)).tolist() == [[1, 1, 0, 0, 1]]


def test_colours_palettes_and_16_bits_are_grey_as_opencv_has_them(tmp_path: Path) -> None:
    # 0.114 * 5 and 0.299 * 3 are dropped to 0, not rounded to 1; of 16 bits the upper 8 remain.
    save(tmp_path / "rgb.png", np.array([[[0, 0, 5], [3, 0, 0], [0, 0, 9], [0, 0, 0]]], dtype=np.uint8))
    assert read_mask(tmp_path, ["rgb.png"], "", (4, 1)).tolist() == [[0, 0, 1, 0]]
    save(tmp_path / "deep.png", np.array([[0, 1, 255, 256, 65535]], dtype=np.uint16))
    assert read_mask(tmp_path, ["deep.png"], "", (5, 1)).tolist() == [[0, 0, 0, 1, 1]]
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 255, 255, 0, 0, 0, 255, 0, 0])  # white, black, red: index 0 is object, index 1 is not
    palette.putdata([0, 1, 2])
    palette.save(tmp_path / "palette.png")
    assert read_mask(tmp_path, ["palette.png"], "", (3, 1)).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("which", ["mask", "ignore"])
@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "text", "cut.png", "cut.jpg", "no end"])
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, which: str, damage: str) -> None:
    rng = np.random.default_rng(0)
    pixels = (rng.random((90, 120)) > 0.5).astype(np.uint8) * 255
    good = save(tmp_path / "good.png", pixels)
    bad = tmp_path / (damage if damage.startswith("cut") else "bad.png")
    if damage == "folder":
        bad.mkdir()
    elif damage != "missing":
        save(bad, pixels)
        whole = bad.read_bytes()
        bad.write_bytes(
            {"empty": b"", "text": b"no image", "no end": whole[:-20]}.get(damage, whole[: len(whole) // 2])
        )
    with pytest.raises(UserError) as caught:
        read_mask(tmp_path, *(([good, bad.name], "") if which == "mask" else ([good], bad.name)), (224, 224))
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ("no such mask" in str(caught.value)) == (damage in ("missing", "folder"))


def test_an_image_without_a_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: an image without a mask"):
        read_mask(tmp_path, [], "ignore.png", (224, 224))
