"""Evaluations of a set whose truth is masks."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.console import UserError
from wsol.counting.mask_tally import MaskTally
from wsol.counting.tally import centre_gaussian
from wsol.evaluate import evaluate_checkpoint, evaluate_scoremaps
from wsol.maps.sources import Scored
from wsol.metadata import ImageRecord, read_metadata
from wsol.pxap import PxAP
from wsol.settings import Settings

SMALL = Settings(input_size=64, interval=0.01, batch_size=4, sheet=0)


def test_masks_are_measured_by_pxap(metadata: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    records = read_metadata(metadata)
    ids = [record.image_id for record in records]
    metric, centre, lines = PxAP(0.01), PxAP(0.01), []
    for place, image_id in enumerate(ids):
        mask = rng.integers(0, 2, (20, 30)).astype(np.uint8)
        ignore = (rng.random((20, 30)) < 0.2).astype(np.uint8)
        score_map = rng.random((20, 30))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask * 255).save(tmp_path / "masks" / f"{place}.png")
        Image.fromarray(ignore * 255).save(tmp_path / "masks" / f"{place}_ignore.png")
        path = tmp_path / "maps" / f"{image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, score_map)
        lines.append(f"{image_id},masks/{place}.png,masks/{place}_ignore.png")
        truth = np.where(mask == 1, 1, np.where(ignore == 1, 255, 0)).astype(np.uint8)
        metric.update(score_map, truth)
        centre.update(centre_gaussian(20, 30), truth)
    (metadata / "localization.txt").write_text("\n".join(lines))
    found = evaluate_scoremaps(tmp_path / "maps", tmp_path / "out", metadata, masks=tmp_path, settings=SMALL)
    assert found["metric"] == found["protocol"]["metric"] == "PxAP"
    for result, pxap, of in ((metric, found["pxap"], ""), (centre, found["centre_baseline"]["pxap"], "centre_")):
        expected = result.compute()
        assert pxap == expected.pxap
        assert found[f"{of}recall"] == expected.recall.tolist()
        precision = [np.nan if value is None else value for value in found[f"{of}precision"]]
        np.testing.assert_array_equal(precision, expected.precision)
    assert found["images"] == 6
    assert found["pictures"] == {"curves": "curves.png"}
    assert (tmp_path / "out" / "curves.png").is_file()
    json.dumps(found, allow_nan=False)
    with pytest.raises(UserError, match="--masks DIR"):
        evaluate_scoremaps(tmp_path / "maps", tmp_path / "out", metadata, settings=SMALL)


def test_masks_of_a_network_are_those_of_its_maps(tree, metadata: Path, checkpoint: Path, tmp_path: Path) -> None:
    ids = (metadata / "image_ids.txt").read_text().splitlines()
    (metadata / "localization.txt").write_text("\n".join(f"{image_id},{image_id}.png," for image_id in ids))
    for place, image_id in enumerate(ids):
        mask = np.arange(64)[:, None] * np.ones((1, 64)) > 8 * place
        Image.fromarray(mask.astype(np.uint8)).save(tree.root / "images" / f"{image_id}.png")
    (metadata / "image_sizes.txt").unlink()  # sets with masks come without them
    out, maps, images = tmp_path / "out", tmp_path / "maps", tree.root / "images"
    (out / "overlays").mkdir(parents=True)
    earlier = [out / "images.csv", out / "sheet.png", out / "overlays" / "000_a.png"]
    for path in earlier:
        path.touch()
    found = evaluate_checkpoint(checkpoint, images, out, metadata, maps, SMALL)
    assert found["images"] == 6
    assert found["protocol"]["boxes_sha256"] is None
    assert found["size_mismatches"] == 0
    assert not any(path.exists() for path in earlier)
    elsewhere = images.rename(tmp_path / "masks")  # read before the data folder, which is empty now
    images.mkdir()
    again = evaluate_scoremaps(maps, out, metadata, images, SMALL, masks=elsewhere)
    assert again["pxap"] == found["pxap"]


def test_masks_without_an_object_are_refused(metadata: Path, tmp_path: Path) -> None:
    ids = (metadata / "image_ids.txt").read_text().splitlines()
    (metadata / "localization.txt").write_text("\n".join(f"{image_id},mask.png," for image_id in ids))
    Image.new("L", (8, 8)).save(tmp_path / "mask.png")
    for image_id in ids:
        path = tmp_path / f"{image_id}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.eye(8))
    with pytest.raises(UserError, match=rf"{tmp_path}: .*; are these the masks of this set\?"):
        evaluate_scoremaps(tmp_path, tmp_path / "out", metadata, masks=tmp_path, settings=SMALL)


def test_of_an_image_its_histograms_are_kept_and_no_map(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "mask.png")
    record = ImageRecord("a.jpg", 0, (4, 4), np.zeros((0, 4)), ("mask.png",))
    tally = MaskTally(0.5, 1, tmp_path)
    for score_map in (np.eye(4), np.zeros((4, 4))):
        measured = tally.measure(Scored(record, partial(np.zeros, (1, 1))), score_map)
        assert measured.scored.make is None
        assert measured.blank == (not score_map.any())
        tally.add(measured)
    result = tally.result("pixels")
    assert (result.images, result.thresholds.tolist()) == (2, [0.0, 0.5, 1.0, 2.0])
