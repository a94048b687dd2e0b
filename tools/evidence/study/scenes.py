"""The study's pictures: few images a class, cluttered and partly hidden, in the demo's layouts."""

from __future__ import annotations

from evidence.stages import ROOT
from evidence.study.plan import WORK
from pretrain.data.demo import write_demo
from pretrain.data.demo.scenes import SceneStyle
from pretrain.data.demo.settings import DemoSettings

CLASSES = SceneStyle(
    sizes=((72, 72),), side=(0.4, 0.8), distractors=(1, 4), occlusion=0.4, truncation=0.25, min_visible=0.5
)
SETTINGS = DemoSettings(
    classes=40,
    train_images=10,
    val_images=20,
    voc2007_test=200,
    cub_val=5,
    cub_test=20,
    classification_style=CLASSES,
)


def prepare() -> None:
    """Write the pictures to work_dirs/study/data/scenes; the same bytes on every machine."""
    summary = write_demo(ROOT / WORK / "data/scenes", 0, SETTINGS)
    for name, number in summary.counts.items():
        print(f"{name:22} {number:5} pictures")
