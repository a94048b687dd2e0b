"""Conversion of pretrained backbones, with proof, and detection fine-tuning."""
