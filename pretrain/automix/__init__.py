"""AutoMix: Mix Block, momentum pipeline and losses."""

from pretrain.automix.automix import AutoMix
from pretrain.automix.joint import JointAutoMix
from pretrain.automix.losses import Losses, LossSettings, build_criterion
from pretrain.automix.mix_block import MixBlock, load_mix_block, save_mix_block
from pretrain.automix.momentum import MomentumEncoder
from pretrain.automix.settings import AutoMixSettings

__all__ = [
    "AutoMix",
    "AutoMixSettings",
    "JointAutoMix",
    "LossSettings",
    "Losses",
    "MixBlock",
    "MomentumEncoder",
    "build_criterion",
    "load_mix_block",
    "save_mix_block",
]
