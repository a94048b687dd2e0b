"""The Mix Block against numbers that the authors' code computed (openmixup, commit 37e1372)."""

import os
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from pretrain.automix import MixBlock, load_mix_block, save_mix_block
from pretrain.console import UserError

CASES_FOLDER = Path(os.environ.get("AUTOMIX_CASES", Path(__file__).parents[2] / "cases" / "mix_block"))
CASES = torch.load(CASES_FOLDER / "cases.pt", weights_only=True)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def _block(case):
    cfg = case["cfg"]
    block = MixBlock(
        cfg["in_channels"],
        cfg["reduction"],
        cfg["lam_concat"],
        cfg["unsampling_mode"],
        cfg.get("use_scale", True),
        "bn" if cfg.get("att_norm_cfg") else None,
    )
    names = {"query.conv.": "query.", "query.bn.": "norm.", "value.": "value."}
    block.load_state_dict({_renamed(key, names): value for key, value in case["state_dict"].items()})
    return block


def _renamed(key, names):
    [prefix] = [prefix for prefix in names if key.startswith(prefix)]
    return names[prefix] + key.removeprefix(prefix)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['variant']}-lam{case['lam']}")
def test_mask_attention_mix_and_gradients_equal_the_authors(case):
    block, images, index, lam = _block(case), case["img"], case["index"], case["lam"]
    features = case["x"].clone().requires_grad_()
    mask = block(features, index, lam, tuple(images.shape[-2:]))
    assert_close(mask, case["mask"][:, :1], **CLOSE)
    assert_close(1 - mask, case["mask"][:, 1:], **CLOSE)
    assert_close(_block(case).attend(features, index, lam)[0], case["attention"], **CLOSE)

    mixed = mask * images + (1 - mask) * images[index]
    assert_close(mixed, case["mixed"], **CLOSE)
    # The authors take the batch mean before the absolute value; the paper takes each sample's.
    mask_loss = torch.clamp((lam - mask.mean()).abs() - case["margin"], min=0)
    assert_close(mask_loss, case["mask_loss"].reshape(()), **CLOSE)

    (mask_loss + (mixed * case["proj"]).sum()).backward()
    assert_close(features.grad, case["grad_x"], **CLOSE)
    names = {"query.conv.": "query.", "query.bn.": "norm.", "value.": "value."}
    for key, gradient in case["grads"].items():
        assert_close(block.get_parameter(_renamed(key, names)).grad, gradient, **CLOSE)


def test_lambda_for_each_sample_equals_one_at_a_time():
    torch.manual_seed(0)
    block = MixBlock(8)
    torch.nn.init.normal_(block.query.weight)
    torch.nn.init.normal_(block.value.weight)
    features, index = torch.randn(3, 8, 2, 5), torch.tensor([2, 0, 1])
    lam = torch.tensor([0.1, 0.5, 0.9])
    together = block(features, index, lam, (7, 16))  # neither side is a multiple of the feature map's
    assert together.shape == (3, 1, 7, 16)
    for i in range(3):
        assert_close(together[i], block(features, index, float(lam[i]), (7, 16))[i])


def test_written_and_read_again(tmp_path):
    block = MixBlock(8, reduction=4, lam_embedding=False, upsample="bilinear")
    save_mix_block(block, tmp_path / "mix_block")
    again = load_mix_block(tmp_path / "mix_block.safetensors")
    assert again.settings == block.settings
    assert all(torch.equal(a, b) for a, b in zip(block.parameters(), again.parameters(), strict=True))
    (tmp_path / "mix_block.safetensors").unlink()
    with pytest.raises(UserError, match="no Mix Block"):
        load_mix_block(tmp_path / "mix_block")
