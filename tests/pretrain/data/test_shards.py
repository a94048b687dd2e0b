"""Shards: the same samples as from the folder, in webdataset's format, and every disagreement in one line."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from pretrain.console import UserError
from pretrain.data import packing, shards
from pretrain.data.card import DataCard, write_data_card
from pretrain.data.datasets import SeededImageFolder, open_image_folder
from pretrain.data.loaders import EpochSampler, build_loader, start
from pretrain.data.packing import shard_dataset
from pretrain.data.shards import INDEX, ShardedImages
from pretrain.data.transforms import TransformSettings, train_transform

ROOT = Path(__file__).parents[3]
SHARD = 60_000  # bytes: three or four images


@pytest.fixture
def tree(tmp_path) -> Path:
    """Noise as JPEG and PNG under names that webdataset would split at a dot, one file of each split unreadable."""
    rng = np.random.default_rng(0)
    root = tmp_path / "tree"
    for split, count in (("train", 9), ("val", 3)):
        for name in ("böse", "gut"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = Image.fromarray(rng.integers(0, 256, (64, 72, 3), dtype=np.uint8))
                pixels.save(root / split / name / f"img.{number}.{'JPEG' if number % 2 else 'png'}")
        (root / split / "gut" / "img.1.JPEG").write_bytes(b"\xff\xd8\xff\xe0 half a picture")
    write_data_card(root, DataCard("two", ["böse", "gut"], {"train": 18, "val": 6}, source={"x.tar": "md5:0"}))
    return root


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opened(root: Path) -> tuple[SeededImageFolder, SeededImageFolder]:
    return open_image_folder(root, *[train_transform(TransformSettings(size=24))] * 2, 3, "make it")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_folder(tree, tmp_path, workers):
    assert shard_dataset(tree, tmp_path / "out", SHARD) == {"train": (18, 5), "val": (6, 2)}
    found = []
    for root in (tree, tmp_path / "out"):
        train_set, _ = opened(root)
        assert train_set.classes == ["böse", "gut"]
        sampler = EpochSampler(len(train_set), 4, shuffle=True, seed=3)
        loader = build_loader(train_set, sampler, workers, pin_memory=False)
        batches = []
        for epoch in range(2):
            sampler.start(epoch, step=epoch)
            batches += list(start(loader))
        assert len(batches) == 4 + 3
        found.append((batches, train_set.unreadable.tolist()))
    (from_folder, unreadable), (from_shards, unreadable_too) = found
    for (images, labels), (others, other_labels) in zip(from_folder, from_shards, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)
    assert unreadable == unreadable_too == [number == 9 + 1 for number in range(18)]


def test_names_and_errors_say_shard_and_file(tree, tmp_path):
    shard_dataset(tree, tmp_path / "out", SHARD)
    train_set, val_set = opened(tmp_path / "out")
    assert train_set.path(0) == f"{tmp_path}/out/train/train-000000.tar: böse/img.0.png"
    with pytest.raises(UserError) as caught:
        val_set[0, 4]
    assert str(caught.value).startswith(
        f"{tmp_path}/out/val/val-000001.tar: gut/img.1.JPEG: cannot be read as an image"
    )
    assert (tmp_path / "out/dataset.json").read_bytes() == (tree / "dataset.json").read_bytes()


def test_webdataset_reads_them(tree, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    shard_dataset(tree, tmp_path / "out", SHARD)
    urls = [str(path) for path in sorted((tmp_path / "out/train").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    expected = [path for name in ("böse", "gut") for path in sorted((tree / "train" / name).iterdir())]
    assert [sample["__key__"] for sample in samples] == [f"{number:08d}" for number in range(18)]
    for sample, path in zip(samples, expected, strict=True):
        assert sample[path.suffix[1:].lower()] == path.read_bytes()
        assert sample["cls"] == str(int(path.parent.name == "gut")).encode()
    decoded = next(iter(webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png;jpeg", "cls")))
    assert np.array_equal(np.asarray(decoded[0]), np.asarray(Image.open(expected[0])))
    assert decoded[1] == 0


@pytest.mark.parametrize("after", [0, 1, 4, 6])
def test_an_interrupted_call_goes_on(tree, tmp_path, monkeypatch, after):
    """Stopped before one of its seven shards, and with a temporary file such as kill -9 leaves."""
    shard_dataset(tree, tmp_path / "whole", SHARD)
    written: list[str] = []
    real = packing.write_shard

    def dying(path, entries):
        if len(written) == after:
            raise KeyboardInterrupt
        real(path, entries)
        written.append(path.name)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            shard_dataset(tree, tmp_path / "out", SHARD)
    (tmp_path / "out/train").mkdir(parents=True, exist_ok=True)
    (tmp_path / "out/train/.train-000001.abc.tar").write_bytes(b"half")
    if after >= 1:
        with pytest.raises(UserError, match=r"unfinished|no images under"):
            opened(tmp_path / "out")
        (tmp_path / "out/train/train-000000.tar").write_bytes(b"damaged since")
    now: list[str] = []
    monkeypatch.setattr(packing, "write_shard", lambda path, entries: (now.append(path.name), real(path, entries)))
    shard_dataset(tree, tmp_path / "out", SHARD)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert len(now) == 7 - after + (after >= 1)  # what was there is kept, but for the damaged one


def test_an_image_that_changed_is_packed_anew(tree, tmp_path, monkeypatch):
    shard_dataset(tree, tmp_path / "out", SHARD)
    before = files(tmp_path / "out")
    shard_dataset(tree, tmp_path / "out", SHARD)
    assert files(tmp_path / "out") == before
    shard = bytearray(before["train/train-000001.tar"])
    shard[1000] ^= 1  # within an image
    (tmp_path / "out/train/train-000001.tar").write_bytes(shard)
    shard_dataset(tree, tmp_path / "out", SHARD)
    assert files(tmp_path / "out") == before
    path = tree / "train/gut/img.0.png"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path)

    def dying(path, entries):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            shard_dataset(tree, tmp_path / "out", SHARD)
    assert not (tmp_path / "out/train" / INDEX).exists()  # it would not fit what comes to lie beside it
    shard_dataset(tree, tmp_path / "out", SHARD)
    assert ShardedImages(tmp_path / "out/train").source(9).read() == path.read_bytes()


def test_a_shard_that_reads_back_otherwise_is_not_left(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "write_shard", lambda path, entries: path.write_bytes(b"what the disk made of it"))
    (tmp_path / "out/train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"train-000000\.tar: reads back otherwise than it was written; check the disk"):
        shard_dataset(tree, tmp_path / "out", SHARD)
    assert files(tmp_path / "out") == {}


def test_other_things_in_the_folder_are_not_touched(tree, tmp_path):
    (tmp_path / "out/val").mkdir(parents=True)
    (tmp_path / "out/val/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt: not a part of these shards; give an empty folder"):
        shard_dataset(tree, tmp_path / "out", SHARD)
    assert files(tmp_path / "out") == {"val/notes.txt": b"mine"}
    shard_dataset(tree, tmp_path / "shards", SHARD)
    with pytest.raises(UserError, match="no images under train/<class>/ and val/<class>/"):
        shard_dataset(tmp_path / "nothing", tmp_path / "again", SHARD)
    with pytest.raises(UserError, match="it holds shards already"):
        shard_dataset(tmp_path / "shards", tmp_path / "again", SHARD)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("missing", r"train-000002\.tar: no such file, and index\.safetensors lists it; run tools/shard_dataset"),
        ("truncated", r"train-000002\.tar: 1,000 bytes, and index\.safetensors says .*: truncated or changed"),
        ("offset", r"index\.safetensors: does not fit the tar files beside it"),
        ("label", r"index\.safetensors: does not fit the tar files beside it"),
        ("length", r"index\.safetensors: does not fit the tar files beside it"),
        ("column", r"index\.safetensors: not the index of a data set in shards"),
        ("damaged", r"index\.safetensors: not the index of a data set in shards"),
        ("card", r"half-extracted: 18 images under train/, the card says 19"),
    ],
)
def test_what_does_not_fit_is_one_line(tree, tmp_path, spoil, problem):
    out = tmp_path / "out"
    shard_dataset(tree, out, SHARD)
    shard, index = out / "train/train-000002.tar", out / "train" / INDEX
    if spoil == "missing":
        shard.unlink()
    elif spoil == "truncated":
        shard.write_bytes(shard.read_bytes()[:1000])
    elif spoil == "damaged":
        index.write_bytes(index.read_bytes()[:-9])
    elif spoil == "card":
        write_data_card(out, DataCard("two", ["böse", "gut"], {"train": 19, "val": 6}))
    else:
        change(index, spoil)
    with pytest.raises(UserError, match=problem) as caught:
        opened(out)
    assert "\n" not in str(caught.value)


def change(index: Path, spoil: str) -> None:
    with shards.safe_open(index, "np") as file:
        metadata = file.metadata()
    columns = load_file(index)
    if spoil == "offset":
        columns["offset"][4] = 10**6
    elif spoil == "label":
        columns["label"][0] = 2
    elif spoil == "length":
        columns["names"] = columns["names"][:-1].copy()
    else:
        del columns["size"]
    save_file(columns, index, metadata)


@pytest.mark.parametrize("spoil", ["missing", "truncated"])
def test_a_shard_lost_during_a_run_is_no_unreadable_image(tree, tmp_path, spoil):
    shard_dataset(tree, tmp_path / "out", SHARD)
    train_set, _ = opened(tmp_path / "out")
    shard = tmp_path / "out/train/train-000000.tar"
    shard.unlink() if spoil == "missing" else os.truncate(shard, 512)
    with pytest.raises(UserError, match=r"train-000000\.tar: (cannot be read|truncated while it was in use)"):
        train_set[0, 0]
    assert train_set.unreadable.sum() == 0


def test_files_are_opened_late_by_each_process_and_not_without_end(tree, tmp_path, monkeypatch):
    shard_dataset(tree, tmp_path / "out", SHARD)
    monkeypatch.setattr(shards, "OPEN_FILES", 2)
    images = ShardedImages(tmp_path / "out/train")
    assert not images._files
    contents = [images.source(number).read() for number in (17, 0, 8, 17)]
    assert contents[0] == contents[3]
    assert len(images._files) == 2
    copy = pickle.loads(pickle.dumps(images))
    assert not copy._files
    assert copy.source(17).read() == contents[0]


def test_the_command(tree, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "tools/shard_dataset.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )

    said = run(str(tree), str(tmp_path / "out"), "--shard-size", "0.06")
    assert said.returncode == 0, said.stderr
    assert "train         18 images in 5 files" in said.stdout
    refused = run(str(tree), str(tmp_path / "out2"), "--shard-size", "0")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--shard-size 0: give a number of megabytes above 0" in refused.stderr
    assert not (tmp_path / "out2").exists()


def test_no_shard_is_larger_than_asked_unless_one_image_is(tree, tmp_path):
    shard_dataset(tree, tmp_path / "out", SHARD)
    assert all(path.stat().st_size <= SHARD for path in (tmp_path / "out").rglob("*.tar"))
    assert shard_dataset(tree, tmp_path / "tiny", 1) == {"train": (18, 18), "val": (6, 6)}
    assert isinstance(ShardedImages(tmp_path / "tiny/train").source(3), io.BytesIO)
