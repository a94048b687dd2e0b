"""Conversion of pretrained backbones, with proof, and detection fine-tuning."""

from transfer.convert import Converted, convert
from transfer.verify import Verification, verify

__all__ = ["Converted", "Verification", "convert", "verify"]
