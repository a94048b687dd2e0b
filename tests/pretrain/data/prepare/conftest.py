"""What the tests of the prepare tools share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from prepare_layouts import LAYOUTS, Built, Colour

from pretrain.archives.sources import find
from pretrain.data.card import DataCard
from pretrain.data.prepare.arrange import arrange


@pytest.fixture(params=LAYOUTS)
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Built:
    """Each data set in turn, its archives in a folder of their own."""
    folder = tmp_path / "archives"
    folder.mkdir()
    return LAYOUTS[request.param](folder)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Built]:
    """Write the archives of one data set."""

    def build(key: str, **changes: object) -> Built:
        folder = tmp_path / "archives"
        folder.mkdir()
        return LAYOUTS[key](folder, **changes)

    return build


@pytest.fixture
def arranged() -> Callable[..., DataCard]:
    """Arrange from a folder of archives, or of what was in them."""

    def run(built: Built, out: Path, unpacked: Path | None = None, **subset: float) -> DataCard:
        sources, missing = find(built.data_set.archives, built.folder, unpacked)
        assert not missing
        return arrange(built.data_set, sources, out, **subset)

    return run


@pytest.fixture
def seen() -> Callable[[Path], dict[tuple[str, str, str], Colour]]:
    """Read a tree: (split, class folder, file name) -> colour of the image there."""

    def read(root: Path) -> dict[tuple[str, str, str], Colour]:
        files = [path for split in ("train", "val") for path in root.glob(f"{split}/*/*") if path.is_file()]
        return {(*path.relative_to(root).parts,): _colour(path) for path in files}

    return read


def _colour(path: Path) -> Colour:
    with Image.open(path) as image:
        pixels = image.convert("RGB")
        colours = pixels.getcolors()
    assert len(colours) == 1
    return colours[0][1]
