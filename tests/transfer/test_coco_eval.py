"""COCO's figures by faster-coco-eval against pycocotools' own, on detections that are hard to count alike."""

from __future__ import annotations

import contextlib
import copy
import io
from collections import Counter
from typing import Any

import faster_coco_eval
import numpy as np
import pytest
from coco_cases import CATEGORIES, COMMON, NEITHER, NEVER_FOUND, NEVER_THERE, hard_case
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pretrain.console import UserError
from transfer.coco_eval import class_percent, evaluate_coco, percent

EXACT = {"rel": 0, "abs": 1e-12, "nan_ok": True}
CONTENT, DETECTIONS = hard_case()


@pytest.fixture
def truth() -> COCO:
    return indexed(CONTENT)


def indexed(content: dict[str, Any]) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
    return truth


def reference(detections: list[dict[str, Any]], task: str, **settings: Any) -> COCOeval:
    """Return what pycocotools makes of it."""
    truth = indexed(CONTENT)
    own = [{key: value for key, value in found.items() if task == "bbox" or key != "bbox"} for found in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        results = truth.loadRes(own) if own else indexed({**CONTENT, "annotations": []})
        evaluation = COCOeval(truth, results, task)
        vars(evaluation.params).update(settings)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_the_case_is_hard() -> None:
    annotations, categories = CONTENT["annotations"], [one["id"] for one in CONTENT["categories"]]
    crowds = [one for one in annotations if one["iscrowd"]]
    assert len(crowds) > 50
    assert all(isinstance(one["segmentation"]["counts"], list) for one in crowds)
    areas = [one["area"] for one in annotations]
    assert min(np.histogram(areas, (0, 1e-9, 32**2, 96**2, 1e9))[0]) > 20
    assert {32.0**2, 96.0**2} <= set(areas), "at the limits of small, medium and large"
    images, with_objects, with_detections = (
        {one[key] for one in some}
        for some, key in ((CONTENT["images"], "id"), (annotations, "image_id"), (DETECTIONS, "image_id"))
    )
    assert min(map(len, (images - with_objects, images - with_detections, with_detections - with_objects))) >= 20
    there, found = ({categories.index(one["category_id"]) for one in some} for some in (annotations, DETECTIONS))
    assert found - there == set(NEVER_THERE)
    assert set(NEVER_FOUND) <= there - found
    assert set(range(CATEGORIES)) - there - found >= set(NEITHER)
    assert np.diff(categories).max() > 1
    assert sum(number > 100 for number in Counter((d["image_id"], d["category_id"]) for d in DETECTIONS).values()) == 2
    assert len({found["score"] for found in DETECTIONS}) <= 101, "so most scores are shared"
    assert sum(found["bbox"][2] == 0 for found in DETECTIONS) > 100
    assert max(Counter(str(found) for found in DETECTIONS).values()) >= 2


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_every_figure_equals_pycocotools(truth: COCO, task: str) -> None:
    theirs = reference(DETECTIONS, task)
    before = copy.deepcopy(DETECTIONS)
    ours = evaluate_coco(truth, DETECTIONS, task, "instances.json")
    assert before == DETECTIONS
    assert len(ours.stats) == len(theirs.stats) == 12
    assert ours.stats.tolist() == pytest.approx(theirs.stats.tolist(), **EXACT)
    assert min(theirs.stats) > 0.02
    for array in ("precision", "recall", "scores"):
        assert ours.eval[array].shape == theirs.eval[array].shape
        assert np.abs(ours.eval[array] - theirs.eval[array]).max() <= 1e-12
    for index, number in enumerate(sorted(one["id"] for one in CONTENT["categories"])):
        precision = theirs.eval["precision"][:, :, index, 0, -1]
        there = (precision > -1).all()
        assert class_percent(ours, number) == pytest.approx(100 * precision.mean() if there else np.nan, **EXACT)
        assert class_percent(ours, number, 0.5) == pytest.approx(
            100 * precision[0].mean() if there else np.nan, **EXACT
        )
        assert class_percent(ours, number, 0.75) == pytest.approx(
            100 * precision[5].mean() if there else np.nan, **EXACT
        )


def test_annotations_read_by_either_library_serve() -> None:
    truth = faster_coco_eval.COCO(copy.deepcopy(CONTENT))
    ours = evaluate_coco(truth, DETECTIONS, "bbox", "instances.json")
    assert ours.stats.tolist() == pytest.approx(reference(DETECTIONS, "bbox").stats.tolist(), **EXACT)


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_no_detection_at_all_is_zero(truth: COCO, task: str) -> None:
    ours = evaluate_coco(truth, [], task, "instances.json")
    assert ours.stats.tolist() == reference([], task).stats.tolist() == [0.0] * 12


def test_some_images_some_categories_and_more_detections(truth: COCO) -> None:
    images = [image["id"] for image in CONTENT["images"]][250:30:-1]
    categories = [one["id"] for one in CONTENT["categories"]][COMMON:60][::-1]
    most = [1, 10, 300]
    theirs = reference(DETECTIONS, "bbox", imgIds=images, catIds=categories, maxDets=most)
    ours = evaluate_coco(truth, DETECTIONS, "bbox", "instances.json", images, categories, most)
    assert np.abs(ours.eval["precision"] - theirs.eval["precision"]).max() <= 1e-12
    assert np.abs(ours.eval["recall"] - theirs.eval["recall"]).max() <= 1e-12
    assert (
        theirs.eval["precision"] != reference(DETECTIONS, "bbox", imgIds=images, catIds=categories).eval["precision"]
    ).any()
    precision = theirs.eval["precision"][..., 0, -1]  # pycocotools' own table knows 100 detections alone
    assert ours.stats[0] == pytest.approx(precision[precision > -1].mean(), **EXACT)
    precision = theirs.eval["precision"][:, :, sorted(categories).index(categories[0]), 0, -1]
    assert class_percent(ours, categories[0]) == pytest.approx(100 * precision.mean(), **EXACT)


def test_nothing_of_the_kind_is_no_number() -> None:
    assert percent(0.25) == 25
    assert percent(0) == 0
    assert np.isnan(percent(-1))


def test_a_detection_on_an_unknown_image_is_one_line(truth: COCO) -> None:
    strays = [{**DETECTIONS[0], "image_id": number} for number in (7001, 7002, 7003, 7004, 7001)]
    message = r"instances\.json: holds no image 7001, 7002, 7003, \.\.\., for which .* \(4 such images\); evaluate on"
    with pytest.raises(UserError, match=message):
        evaluate_coco(truth, DETECTIONS + strays, "bbox", "instances.json")


def test_image_ids_that_are_no_numbers_are_one_line() -> None:
    image = {"id": "a.jpg", "width": 10, "height": 10}
    truth = indexed({"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]})
    with pytest.raises(
        UserError, match=r"instances\.json: the image id 'a\.jpg' is no whole number; number the images"
    ):
        evaluate_coco(truth, [], "bbox", "instances.json")
