"""Masks over training, from what a run left, and over lambda, from what it exported."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pretrain.automix import MixBlock
from pretrain.backbones import BackboneCard, build_backbone, stage_features
from pretrain.console import UserError
from pretrain.evaluation.looks import MaskLook, find_looks, forget_looks_after, look_stem, read_look
from pretrain.evaluation.pictures import draw_masks_over_lambda, draw_masks_over_training

PAIRS = torch.randint(0, 256, (4, 3, 6, 8), generator=torch.Generator().manual_seed(0)).byte()


def _leave(run, epoch, pairs=PAIRS):
    """Write a look whose masks are epoch / 1024, which float16 holds exactly."""
    MaskLook(pairs, torch.full((2, 1, 6, 8), epoch / 1024).half()).save(look_stem(run, epoch))


def _titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_a_look_is_read_as_it_was_written(tmp_path):
    masks = torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(1)).half()
    look = MaskLook(PAIRS, masks)
    look.save(look_stem(tmp_path, 7))
    assert [path.name for path in (tmp_path / "mixes").iterdir()] == ["epoch_0007.safetensors"]
    read = read_look(tmp_path / "mixes/epoch_0007.safetensors")
    assert torch.equal(read.pairs, PAIRS)
    assert torch.equal(read.masks, masks)
    second = masks[1, 0].float() * PAIRS[2] / 255 + (1 - masks[1, 0].float()) * PAIRS[3] / 255
    torch.testing.assert_close(read.mixed()[1], second)


def test_epochs_stand_in_columns_between_the_images(tmp_path):
    for epoch in (10, 1, 20):
        _leave(tmp_path, epoch)
    figure = draw_masks_over_training(tmp_path)
    grid = np.array(figure.axes).reshape(4, 5)
    assert _titles(figure)[:10] == [
        *("image i", "epoch 1", "epoch 10", "epoch 20", "image j"),
        *("", "mask mean 0.00", "mask mean 0.01", "mask mean 0.02", ""),
    ]
    pairs = PAIRS.float().permute(0, 2, 3, 1).numpy() / 255
    for row, (i, j) in ((0, (0, 1)), (2, (2, 3))):
        assert np.allclose(grid[row, 0].images[0].get_array(), pairs[i])
        assert np.allclose(grid[row, 4].images[0].get_array(), pairs[j])
        for column, epoch in enumerate((1, 10, 20), start=1):
            share = epoch / 1024
            assert np.allclose(grid[row, column].images[0].get_array(), share * pairs[i] + (1 - share) * pairs[j])
            assert np.allclose(grid[row + 1, column].images[0].get_array(), share)
    assert figure.get_supxlabel() == "$\\lambda$ = 0.5"


def test_of_many_epochs_ten_are_drawn_and_of_many_pairs_two(tmp_path):
    for epoch in (1, *range(10, 301, 10)):
        MaskLook(PAIRS.repeat(2, 1, 1, 1), torch.zeros(4, 1, 6, 8).half()).save(look_stem(tmp_path, epoch))
    titles = _titles(draw_masks_over_training(tmp_path))
    assert titles.count("image i") == titles.count("epoch 1") == 2
    drawn = [int(title.split()[1]) for title in titles if "epoch" in title][:10]
    assert drawn[0] == 1
    assert drawn[-1] == 300
    assert len(drawn) == 10
    assert set(np.diff(drawn[1:])) <= {30, 40}


def test_a_run_without_masks_says_why(tmp_path):
    with pytest.raises(UserError, match=r"no masks in mixes/epoch_\*\.safetensors: only runs of AutoMix"):
        draw_masks_over_training(tmp_path)
    (tmp_path / "mixes").mkdir()
    (tmp_path / "mixes/epoch_0010.png").touch()
    with pytest.raises(UserError, match="before runs kept them; train again"):
        draw_masks_over_training(tmp_path)


def test_damaged_and_foreign_files_are_named(tmp_path):
    _leave(tmp_path, 1)
    path = look_stem(tmp_path, 2).with_suffix(".safetensors")
    path.write_bytes(b"half")
    with pytest.raises(UserError, match=r"epoch_0002\.safetensors: no masks can be read here"):
        draw_masks_over_training(tmp_path)
    for wrong in ({"weights": torch.zeros(3)}, {"pairs": PAIRS, "masks": torch.zeros(2, 1, 6, 7)}, {"pairs": PAIRS}):
        save_file(wrong, path)
        with pytest.raises(UserError, match=r"epoch_0002\.safetensors: not the masks of a run.* but .*\("):
            draw_masks_over_training(tmp_path)
    _leave(tmp_path, 2, pairs=PAIRS.flip(0))
    with pytest.raises(UserError, match=r"epoch_0002\.safetensors: other images than at epoch 1"):
        draw_masks_over_training(tmp_path)


def test_later_looks_are_forgotten(tmp_path):
    for epoch in (1, 10, 20):
        _leave(tmp_path, epoch)
        look_stem(tmp_path, epoch).with_suffix(".png").touch()
    (tmp_path / "mixes/epoch_notes.png").touch()
    forget_looks_after(tmp_path, 10)
    assert [*find_looks(tmp_path)] == [*find_looks(tmp_path, ".png")] == [1, 10]
    assert (tmp_path / "mixes/epoch_notes.png").exists()
    forget_looks_after(tmp_path / "nothing", 0)


@pytest.fixture
def exported():
    torch.manual_seed(0)
    network = build_backbone("resnet10t", 3).eval()
    card = BackboneCard(arch="resnet10t", classes=("a", "b", "c"), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    return network, card


@pytest.mark.parametrize(("layer", "channels"), [(None, 256), (2, 128)])
def test_masks_over_lambda_are_the_blocks(exported, layer, channels):
    """The stage is that of the run; the paper's third where the card does not say."""
    network, card = exported
    if layer:
        card = replace(card, training={"method": {"feature_layer": layer}})
    block = MixBlock(channels).eval()
    torch.nn.init.normal_(block.value.weight, std=0.3)
    images = torch.rand(4, 3, 64, 64)
    figure = draw_masks_over_lambda(block, network, images, card, lambdas=(0.2, 0.8))
    grid = np.array(figure.axes).reshape(4, 4)
    assert _titles(figure)[:4] == ["image i", "$\\lambda$ = 0.2", "$\\lambda$ = 0.8", "image j"]
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (card.mean, card.std))
    with torch.no_grad():
        features = stage_features(network, (images - mean) / std, layer or 3)
        masks = block(features, torch.tensor([1, 0, 3, 2]), 0.8, (64, 64))
    assert masks.std() > 0.001  # else any stage would do
    for row, first in ((0, 0), (2, 2)):
        assert np.allclose(grid[row + 1, 2].images[0].get_array(), masks[first, 0], atol=1e-6)
        mixed = masks[first] * images[first] + (1 - masks[first]) * images[first + 1]
        assert np.allclose(grid[row, 2].images[0].get_array(), mixed.permute(1, 2, 0), atol=1e-5)
        assert np.allclose(grid[row, 3].images[0].get_array(), images[first + 1].permute(1, 2, 0))


def test_the_block_of_another_network_is_refused(exported):
    network, card = exported
    with pytest.raises(UserError, match="the Mix Block reads 128 channels and stage 3 of resnet10t has 256"):
        draw_masks_over_lambda(MixBlock(128).eval(), network, torch.rand(2, 3, 64, 64), card)


def test_the_spread_of_masks_is_nought_of_mixup_and_a_half_of_halves():
    pairs = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    masks = torch.tensor([[[[0.3, 0.3], [0.3, 0.3]]], [[[0.0, 1.0], [0.0, 1.0]]]], dtype=torch.float16)
    assert MaskLook(pairs, masks).spread() == pytest.approx(0.25)  # mean of 0 and 0.5
