"""The quickstart's own commands in a row, with a handful of steps each: what one room writes the next one reads."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import report
import stages

from evidence import stages as chain
from pretrain.data.demo import write_demo
from pretrain.data.demo.settings import DemoSettings
from pretrain.files import read_json

ROOT = Path(__file__).parents[2]
DEMO = DemoSettings(
    classes=24, train_images=2, val_images=1, voc2007_trainval=4, voc2012_trainval=4, voc2007_test=20,
    cub_train=1, cub_val=1, cub_test=1,
)  # fmt: skip
FEW_STEPS = {
    "pretrain": ("optim.epochs=2", "data.batch_size=16", "data.workers=0", "optim.warmup_epochs=0", "run.log_every=1"),
    "d2": ("SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "(2,)", "TEST.PRECISE_BN.NUM_ITER", "1"),
    "mmdet": ("train_cfg.max_iters=3", "train_cfg.val_interval=3", "default_hooks.logger.interval=1"),
}


def _shortened(stage, data):
    """Return the stage with the settings of FEW_STEPS behind its command; the data are there already."""
    if stage.name == "data":
        return replace(stage, command=("python", "-c", "pass"))
    few = FEW_STEPS.get(room := stage.name.split("_")[0], ())
    if room == "pretrain":
        few = ("--cfg-options", f"data.root={data / 'classification'}", *few)
    elif room == "mmdet":
        few = ("--cfg-options", *few)
    return replace(stage, command=(*stage.command, *few))


@pytest.mark.slow
def test_from_images_to_the_report(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(stages, "WORK", tmp_path)
    write_demo(tmp_path / "data", 0, DEMO)
    plan = [_shortened(stage, tmp_path / "data") for stage in stages.plan()]
    chain.run(plan, tmp_path / "stages")
    page = report.write_report(tmp_path, plan).read_text()

    capfd.readouterr()
    chain.run(plan, tmp_path / "stages")
    assert capfd.readouterr().err.count("done already") == len(plan)

    results = report.collect(tmp_path)
    for name, card in results["conversions"].items():
        assert set(card["verification"]["max_abs_diff"].values()) == {0.0}, name
    # The digest of the weights goes from hand to hand: what was exported is what was converted, trained and localised.
    exported = read_json(tmp_path / "pretrain/automix/export/teacher.json")["sha256"]
    assert results["conversions"]["AutoMix to Detectron2"]["sha256"] == exported
    assert results["d2"]["automix"]["backbone_sha256"] == exported
    assert results["wsol"]["automix"]["checkpoint"]["sha256"] == exported
    converted = results["conversions"]["AutoMix to MMDetection"]["weights_sha256"]
    assert results["mmdet"]["automix"]["weights_sha256"] == converted
    assert {start: row["start"] for start, row in results["d2"].items()} == {
        "automix": "automix teacher", "vanilla": "vanilla", "random": "random",
    }  # fmt: skip

    pictures = re.findall(r'<img src="([^"]{0,22})', page)
    assert len(pictures) == 4 + 6 * 4 + 3 * 3 + 1  # plots, detections of four runs, overlays of three networks, a sheet
    assert all(source.startswith("data:image/") for source in pictures)
    assert not re.search(r'(src|href)="(https?:)?//', page)  # self-contained
    for stage in plan:
        assert stage.title in page
    for row in results["wsol"].values():
        assert f"<td>{row['max_box_acc_v2']['mean']:.1f}</td>" in page
    assert page.count("CC BY-SA 4.0") >= 3
