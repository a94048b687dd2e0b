"""AutoMix: Mix Block, momentum pipeline and losses."""

from pretrain.automix.automix import AutoMix, AutoMixSettings
from pretrain.automix.losses import Losses
from pretrain.automix.mix_block import MixBlock, load_mix_block, save_mix_block
from pretrain.automix.momentum import MomentumEncoder

__all__ = ["AutoMix", "AutoMixSettings", "Losses", "MixBlock", "MomentumEncoder", "load_mix_block", "save_mix_block"]
