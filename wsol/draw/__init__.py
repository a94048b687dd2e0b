"""Pictures of an evaluation: score maps over their images, the best and the worst cases, and curves."""

from wsol.draw.cases import ESTIMATE_COLOUR, TRUE_COLOUR, Case
from wsol.draw.curves import draw_curves
from wsol.draw.overlays import draw_overlay, draw_overlays
from wsol.draw.sheet import draw_sheet

__all__ = [
    "ESTIMATE_COLOUR",
    "TRUE_COLOUR",
    "Case",
    "draw_curves",
    "draw_overlay",
    "draw_overlays",
    "draw_sheet",
]
