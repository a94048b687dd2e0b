"""The Mix Block apart from parity: lambda for each sample, any sizes, its file."""

import pytest
import torch
from torch.testing import assert_close

from pretrain.automix import MixBlock, load_mix_block, save_mix_block
from pretrain.console import UserError


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
    weights = tmp_path / "mix_block.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(UserError, match="no Mix Block can be read here"):
        load_mix_block(tmp_path / "mix_block")
    (tmp_path / "card.json").write_text('{"arch": "resnet18"}')
    with pytest.raises(UserError, match="no Mix Block can be read here .*'arch'"):
        load_mix_block(tmp_path / "card")
    weights.unlink()
    with pytest.raises(UserError, match="no Mix Block"):
        load_mix_block(tmp_path / "mix_block")
