"""What a run sees: erasing, images that cannot be read, an error from a worker."""

import multiprocessing
import shutil

import pytest
import torch

from pretrain.console import UserError
from pretrain.data.packing import shard_dataset
from pretrain.data.shards import INDEX
from pretrain.training import loop
from pretrain.training.devices import launch_fabric
from pretrain.training.inputs import Inputs
from pretrain.training.logbook import read_log
from pretrain.training.loop import train
from pretrain.training.settings import load_settings

STEPS = 4  # an epoch of the 33 training images, 8 a step


@pytest.fixture
def fabric():
    return launch_fabric("32-true")


@pytest.fixture
def own_folder(image_folder, tmp_path):
    """A copy of the images that a test may spoil."""
    return shutil.copytree(image_folder, tmp_path / "images")


def _batches(config, fabric, step=0, **options):
    changes = {f"data.{key}": value for key, value in options.items()}
    return list(Inputs(load_settings(config, changes), fabric).training(step))


def test_erasing_is_off_unless_asked_for_and_erases_boxes_by_noise(config, fabric):
    plain, none, some, every = (
        _batches(config, fabric, **({} if p is None else {"transform.erasing": p})) for p in (None, 0.0, 0.5, 1.0)
    )
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(plain, none, strict=True))
    erased = []
    for (before, _), (half, _), (after, _) in zip(plain, some, every, strict=True):
        erased += [not torch.equal(one, other) for one, other in zip(before, half)]
        for one, other in zip(before, after):
            changed = (one != other).all(dim=0)  # noise hits the same float32 in no pixel
            rows, columns = changed.any(dim=1).nonzero().flatten(), changed.any(dim=0).nonzero().flatten()
            box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all()
            assert torch.equal(one[:, ~changed], other[:, ~changed])
            assert 0.01 <= box.numel() / changed.numel() <= 0.36  # timm: 2 to 33 %, rounded to pixels
    assert 6 <= sum(erased) <= 26  # of 32, 16 expected, 3.5 standard deviations


def test_erasing_is_the_same_after_a_resume(config, fabric):
    options = {"transform.erasing": 1.0}
    whole = _batches(config, fabric, STEPS, **options)
    resumed = _batches(config, fabric, STEPS + 2, **options)
    assert len(whole) == STEPS == len(resumed) + 2
    for (images, labels), (others, other_labels) in zip(whole[2:], resumed, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_come_in_the_layout_that_is_asked_for(config, fabric, channels_last):
    inputs = Inputs(load_settings(config, {"run.channels_last": channels_last}), fabric)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    batches = [*inputs.training(0), *inputs.validation(), (inputs.pairs(), None)]
    assert all(images.is_contiguous(memory_format=layout) for images, _ in batches)


def test_a_run_over_a_corrupt_image_warns_lists_counts_and_goes_on(
    config, own_folder, tmp_path, fabric, monkeypatch, capsys
):
    before = set(multiprocessing.active_children())  # of other tests
    spoilt = own_folder / "train/class1/4.png"
    spoilt.write_bytes(spoilt.read_bytes()[:40])
    settings = load_settings(config, {"data.root": str(own_folder), "optim.epochs": 3, "data.workers": 1})
    real_step = loop.Run._step

    def dying_step(run, images, labels):
        if run.step == 2 * STEPS + 1:
            raise ConnectionError
        real_step(run, images, labels)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "_step", dying_step)
        with pytest.raises(ConnectionError):
            train(settings, folder, resume=False, fabric=fabric)
    said = capsys.readouterr().err
    assert said.count(f"warning: 1 training images cannot be read, others took their place: {spoilt};") == 1
    train(settings, folder, resume=True, fabric=fabric)
    assert "cannot be read" not in capsys.readouterr().err
    assert (folder / "unreadable_images.txt").read_text(encoding="utf-8") == f"{spoilt}\n"
    assert set(multiprocessing.active_children()) <= before  # workers outlive an epoch, not a run
    epochs = [entry for entry in read_log(folder) if "epoch" in entry]
    assert [entry.get("unreadable_images") for entry in epochs] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_validation_image_is_one_line_from_a_worker_too(config, own_folder, fabric, workers):
    spoilt = own_folder / "val/class2/1.png"
    spoilt.write_bytes(spoilt.read_bytes()[:40])
    inputs = Inputs(load_settings(config, {"data.root": str(own_folder), "data.workers": workers}), fabric)
    with pytest.raises(UserError) as caught:
        list(inputs.validation())
    if workers:  # while the queues are there to tell them; the collector may take these first, and then waits
        inputs._val_loader._iterator._shutdown_workers()
    assert str(caught.value).startswith(f"{spoilt}: cannot be read as an image (")
    assert str(caught.value).endswith("; replace or remove it")
    assert "\n" not in str(caught.value)


def test_a_run_reads_shards_bit_for_bit(config, own_folder, tmp_path, fabric):
    shard_dataset(own_folder, tmp_path / "shards", 30_000)
    assert (tmp_path / "shards/val" / INDEX).exists()
    for one, other in zip(
        _batches(config, fabric, STEPS + 1, root=str(own_folder)),
        _batches(config, fabric, STEPS + 1, root=str(tmp_path / "shards")),
        strict=True,
    ):
        assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))
