"""FGVC-Aircraft, 200 epochs from ImageNet weights (Section 4.2): the paper's settings, those of CUB-200-2011."""

_base_ = "../cub200/base_200ep.py"

data = dict(root="data/aircraft", prepare="python tools/prepare_aircraft.py")
