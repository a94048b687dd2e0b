"""Many runs in the form of Table 7: means, tests and corrections that can be checked by hand, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from scipy import stats

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.d2.config import changed_values, get_cfg, load_config
from transfer.finetuning.settings import settings_of
from transfer.summarize.comparisons import Cell
from transfer.summarize.paper import CONFIGS, SAME_PROTOCOL, departures, iterations_of, methods, table_7
from transfer.summarize.printing import as_json, as_markdown
from transfer.summarize.runs import method_of, read_runs
from transfer.summarize.statistics import holm, power_of, seeds_needed, welch
from transfer.summarize.tables import Table, build_tables

ROOT = Path(__file__).parents[2]
VOC, COCO = "voc_r50_c4_24k", "coco_r50_c4_2x"


def write(folder: Path, start: str, seed: int, ap50: float | None, config: str = "demo", **changes: object) -> Path:
    """Write a results.json as tools/finetune_d2.py does; AP is half of AP50, AP75 a quarter."""
    path = folder / config / f"{start}-{seed}-{len(list(folder.rglob('*.json')))}" / "results.json"
    path.parent.mkdir(parents=True)
    lengths = {VOC: 24000, COCO: 180000}
    result = {
        "framework": "Detectron2 0.6",
        "config": config,
        "start": start,
        "seed": seed,
        "AP": ap50 and ap50 / 2,
        "AP50": ap50,
        "AP75": ap50 and ap50 / 4,
        "iterations": lengths.get(config, 400),
        "weights_sha256": "" if start == "random" else f"weights of {start}",
        "settings": {"SEED": seed, "MODEL.DEVICE": "cpu"},
        "changed_on_resume": [],
    }
    path.write_text(json.dumps({**result, **changes}))
    return path


def tables(folder: Path, baseline: str | None = None) -> list[Table]:
    return build_tables(read_runs([folder])[0], baseline)


def test_the_papers_figures() -> None:
    """Liu et al., arXiv:2103.13027, Table 7: VOC mAP; COCO mAP, AP50, AP75."""
    text = """vanilla 81.0 38.1 59.1 41.8   mixup 80.7 37.9 59.0 41.7     cutmix 81.9 38.2 59.3 42.0
    puzzlemix 81.9 38.3 59.3 42.1         resizemix 82.1 38.4 59.4 42.1 automix 82.4 38.6 59.5 42.2"""
    words = text.split()
    expected = {words[i]: [float(word) for word in words[i + 1 : i + 5]] for i in range(0, len(words), 5)}
    assert methods() == list(expected)
    assert {method: [column[method] for column in table_7().values()] for method in methods()} == expected
    assert list(table_7()) == [f"{VOC}/AP50", f"{COCO}/AP", f"{COCO}/AP50", f"{COCO}/AP75"]
    assert (iterations_of(VOC), iterations_of(COCO)) == (24000, 180000)
    assert all((CONFIGS / "mmdet" / f"{name}.py").is_file() for name in SAME_PROTOCOL)


def test_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    for seed, value in enumerate((10.0, 12.0, 14.0)):
        write(tmp_path, "automix teacher", seed, value)
    write(tmp_path, "random", 0, 3.0)
    [table] = tables(tmp_path)
    cell = table.rows["automix teacher"]["AP50"]
    assert (cell.mean, cell.deviation, cell.runs, cell.pretrainings) == (12.0, 2.0, 3, 1)  # sqrt((4 + 0 + 4) / 2)
    assert (table.rows["automix teacher"]["AP"].mean, table.rows["automix teacher"]["AP75"].mean) == (6.0, 3.0)
    assert table.rows["random"]["AP50"].mean == 3.0
    assert math.isnan(table.rows["random"]["AP50"].deviation)
    assert (table.rows["random"]["AP50"].pretrainings, cell.paper) == (0, None)
    assert Cell((0.1, 0.1, 0.1), 3, 1, None).deviation == 0.0  # their mean is 0.10000000000000002
    assert "no row starts from vanilla" in " ".join(table.notes)


def test_the_form_of_table_7(tmp_path: Path) -> None:
    for start in ("supermix", "automix teacher", "vanilla", "resizemix", "random"):
        write(tmp_path, start, 0, 82.0, VOC)
    write(tmp_path, "automix teacher", 0, 60.0, COCO)
    write(tmp_path, "vanilla", 0, 30.0)
    joined, demo = sorted(tables(tmp_path), key=lambda table: -len(table.columns))
    assert [column.title for column in joined.columns] == [
        *("VOC mAP (AP50)", "COCO mAP (AP)", "COCO AP50", "COCO AP75")
    ]
    assert list(joined.rows) == ["vanilla", "resizemix", "automix teacher", "random", "supermix"]
    row = joined.rows["automix teacher"]
    assert {title: (cell.mean, cell.paper) for title, cell in row.items()} == {
        "VOC mAP (AP50)": (82.0, 82.4),
        "COCO mAP (AP)": (30.0, 38.6),
        "COCO AP50": (60.0, 59.5),
        "COCO AP75": (15.0, 42.2),
    }
    assert joined.rows["supermix"]["VOC mAP (AP50)"].paper is None
    assert [column.title for column in demo.columns] == ["AP", "AP50", "AP75"]
    assert demo.rows["vanilla"]["AP50"].paper is None
    text = as_markdown([joined], {})
    assert "| automix teacher | 82.00, n = 1; paper 82.4, -0.40 | 30.00, n = 1; paper 38.6, -8.60 |" in text
    assert "| random | 82.00, n = 1 | - | - | - |" in text


def test_mmdetection_has_a_table_of_its_own_with_the_same_paper_figures(tmp_path: Path) -> None:
    write(tmp_path, "mixup", 0, 82.0, VOC)
    name = "faster-rcnn_r50-c4_voc0712"
    cfg = Config.fromfile(CONFIGS / "mmdet" / f"{name}.py", import_custom_modules=False)
    changes = {"framework": "MMDetection 3.3.0", "iterations": 24000}
    elsewhere = {
        "train_dataloader.num_workers": 8,
        "train_cfg.val_interval": 3,
        "model.data_preprocessor.std": [1, 1, 1],
    }
    settings = {**settings_of(cfg, 16), **elsewhere}
    write(tmp_path, "mixup", 0, 81.0, name, settings=settings, **changes)
    first, second = tables(tmp_path)
    titles = sorted((first.title, second.title))
    assert titles == ["Detectron2 0.6, voc_r50_c4_24k", "MMDetection 3.3.0, faster-rcnn_r50-c4_voc0712"]
    assert [table.rows["mixup"]["VOC mAP (AP50)"].paper for table in (first, second)] == [80.7, 80.7]
    assert not any("runs depart" in note for table in (first, second) for note in table.notes)
    settings["optim_wrapper.optimizer.lr"] = 1.0
    write(tmp_path, "cutmix", 0, 81.0, name, settings=settings, **changes)
    assert any(
        "faster-rcnn_r50-c4_voc0712: optim_wrapper.optimizer.lr 1.0." in n for t in tables(tmp_path) for n in t.notes
    )


def test_versions_of_a_framework_are_not_joined(tmp_path: Path) -> None:
    write(tmp_path, "mixup", 0, 82.0, VOC)
    write(tmp_path, "mixup", 0, 60.0, COCO, framework="Detectron2 0.7")
    assert sorted(len(table.columns) for table in tables(tmp_path)) == [1, 3]


def test_welch_by_hand() -> None:
    """t and the degrees of freedom by Welch's and Satterthwaite's formulas, from variances worked out by hand."""
    first, second = [82.0, 82.4, 82.8], [81.0, 81.2, 81.0, 80.8]
    one, two = 0.16 / 3, (0.08 / 3) / 4  # variance over n: (0.16 + 0 + 0.16) / 2 / 3; (0 + 0.04 + 0 + 0.04) / 3 / 4
    error = math.sqrt(one + two)
    freedom = (one + two) ** 2 / (one**2 / 2 + two**2 / 3)
    result = welch(first, second)
    assert result.difference == pytest.approx(1.4)
    assert result.p == pytest.approx(2 * stats.t.sf(1.4 / error, freedom))
    half = stats.t.ppf(0.975, freedom) * error
    assert (result.low, result.high) == (pytest.approx(1.4 - half), pytest.approx(1.4 + half))


def test_holm_by_its_published_behaviour() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 4 x .005, 3 x .01, 2 x .03
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])  # R's p.adjust
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "runs"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)])
def test_seeds_needed_are_those_of_the_tables_of_power(effect: float, runs: int) -> None:
    """G*Power: two-sided t-test of two means, level 0.05, power 0.8, equal groups."""
    assert seeds_needed(effect, 1.0) == runs
    assert power_of(runs - 1, effect, 1.0) < 0.8 <= power_of(runs, effect, 1.0)


def test_the_papers_gain_needs_nine_seeds() -> None:
    assert seeds_needed() == seeds_needed(0.3, 0.2) == 9
    assert seeds_needed(100.0, 0.1) == 2


def test_comparisons_with_the_baseline(tmp_path: Path) -> None:
    figures = {"vanilla": (81.0, 81.2, 80.8), "automix": (82.4, 82.6, 82.2), "cutmix": (81.1, 81.3, 80.9)}
    for start, values in figures.items():
        for seed, value in enumerate(values):
            write(tmp_path, start, seed, value, VOC)
    [table] = tables(tmp_path)
    cutmix, automix = table.comparisons
    assert (cutmix.start, cutmix.baseline, cutmix.verdict) == ("cutmix", "vanilla", "no difference shown")
    assert (automix.start, automix.verdict) == ("automix", "higher")
    assert automix.test is not None
    assert automix.test.p == pytest.approx(
        stats.ttest_ind(figures["automix"], figures["vanilla"]).pvalue
    )  # equal n, sd
    assert automix.p_holm == pytest.approx(2 * automix.test.p)
    [table] = tables(tmp_path, "automix")
    assert [(one.start, one.verdict) for one in table.comparisons] == [("vanilla", "lower"), ("cutmix", "lower")]
    with pytest.raises(UserError, match="--baseline resize: no run starts from it; known: automix, cutmix, vanilla"):
        tables(tmp_path, "resize")
    plain = as_json([table], {})
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["seeds_needed"]["seeds"] == 9
    assert len(plain["tables"][0]["files"]) == 9


def test_a_difference_that_only_many_tests_show_is_not_shown(tmp_path: Path) -> None:
    """One p below 0.05 among three tests, which Holm's correction lifts above it."""
    for seed, noise in enumerate((-0.3, 0.0, 0.3)):
        for start, value in {"vanilla": 81.0, "mixup": 81.75, "cutmix": 81.0, "puzzlemix": 81.0}.items():
            write(tmp_path, start, seed, value + noise, VOC)
    [table] = tables(tmp_path)
    mixup = table.comparisons[0]
    assert mixup.test is not None
    assert mixup.test.p < 0.05 < mixup.p_holm
    assert mixup.p_holm == pytest.approx(3 * mixup.test.p)
    assert mixup.verdict == "no difference shown"


def test_no_test_without_a_spread(tmp_path: Path) -> None:
    write(tmp_path, "vanilla", 0, 81.0)
    write(tmp_path, "automix", 0, 82.0)
    write(tmp_path, "cutmix", 0, 81.5)
    write(tmp_path, "cutmix", 1, 81.6)
    [table] = tables(tmp_path)
    verdicts = {one.start: one.verdict for one in table.comparisons}
    assert verdicts["automix"] == (
        "no test: one seed of vanilla and of automix (9 each would show 0.3 at a deviation of 0.2)"
    )
    assert verdicts["cutmix"].startswith("no test: one seed of vanilla (9 each")
    plain = as_json([table], {})["tables"][0]
    json.dumps(plain, allow_nan=False)
    assert plain["rows"][0]["cells"]["AP50"]["standard_deviation"] is plain["comparisons"][0]["p_holm"] is None
    write(tmp_path, "vanilla", 1, 81.0)
    write(tmp_path, "automix", 1, 82.0)
    [table] = tables(tmp_path)
    assert "no test: no spread over the runs of either" in [one.verdict for one in table.comparisons]


def test_pretraining_runs_are_the_trials_where_there_are_several(tmp_path: Path) -> None:
    for digest, values in {"a": (80.0, 82.0), "b": (84.0,), "": ()}.items():
        for seed, value in enumerate(values):
            write(tmp_path, "automix", seed, value, weights_sha256="other", backbone_sha256=digest)
    [table] = tables(tmp_path)
    cell = table.rows["automix"]["AP50"]
    assert sorted(cell.values) == [81.0, 84.0]
    assert (cell.mean, cell.runs, cell.pretrainings) == (82.5, 3, 2)
    assert any(note.startswith("Pretraining runs that a mean covers: 2 of automix") for note in table.notes)
    assert "82.50 ± 2.12, n = 2; 3 detector runs" in as_markdown([table], {})


def test_other_settings_are_never_averaged(tmp_path: Path) -> None:
    usual = write(tmp_path, "automix", 0, 10.0)
    write(tmp_path, "automix", 1, 11.0)
    odd = write(tmp_path, "automix", 2, 50.0, settings={"SEED": 2, "MODEL.DEVICE": "cuda", "SOLVER.BASE_LR": 0.5})
    short = write(tmp_path, "automix", 3, 60.0, iterations=100)
    by_files = {tuple(table.files): table for table in tables(tmp_path)}
    assert {len(files) for files in by_files} == {1, 2}
    assert by_files[(odd,)].rows["automix"]["AP50"].mean == 50.0
    assert f"here SOLVER.BASE_LR 0.5, iterations 400: {odd}." in by_files[(odd,)].notes[0]
    assert f"SOLVER.BASE_LR as by default, iterations 100: {short}." in by_files[(short,)].notes[0]
    [whole] = [table for files, table in by_files.items() if usual in files]
    assert whole.rows["automix"]["AP50"].mean == 10.5


def test_a_shorter_run_of_a_papers_config_has_no_paper_figures(tmp_path: Path) -> None:
    write(tmp_path, "automix", 0, 40.0, VOC, iterations=30)
    [table] = tables(tmp_path)
    assert [column.title for column in table.columns] == ["AP", "AP50", "AP75"]
    assert table.rows["automix"]["AP50"].paper is None
    assert any(f"{VOC} trains 24000 iterations, these runs 30" in note for note in table.notes)


@pytest.mark.parametrize("config", [VOC, COCO])
def test_departures_from_the_published_settings(config: str, tmp_path: Path) -> None:
    """What Detectron2 itself says of the config departs in nothing; an overridden rate and batch do."""
    odd = {"SOLVER.BASE_LR": "0.01", "SOLVER.WEIGHT_DECAY": "0.05"}
    given = [word for pair in {**odd, "DATALOADER.NUM_WORKERS": "9"}.items() for word in pair]
    for overrides, expected in (([], {}), (given, odd)):
        card = BackboneCard(arch="resnet50", classes=())
        cfg = load_config(ROOT / "configs" / "d2" / f"{config}.yaml", card, overrides)
        settings = changed_values(cfg, get_cfg())
        [run] = read_runs([write(tmp_path, "automix", len(overrides), 80.0, config, settings=settings)])[0]
        assert departures(run) == expected
    usual_and_odd = tables(tmp_path)
    assert len(usual_and_odd) == 2
    notes = [note for table in usual_and_odd for note in table.notes if note.startswith("These")]
    assert notes == [f"These runs depart from {config}: SOLVER.BASE_LR 0.01, SOLVER.WEIGHT_DECAY 0.05."]


def test_runs_that_changed_in_the_middle_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "automix", 0, 10.0, changed_on_resume=["MODEL.DEVICE", "DATALOADER.NUM_WORKERS"])
    changed = write(tmp_path, "automix", 1, 90.0, changed_on_resume=["SOLVER.BASE_LR", "MODEL.DEVICE"])
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "results.json"
    other.write_text("{}")
    runs, left_out = read_runs([tmp_path])
    assert [run.seed for run in runs] == [0]
    assert left_out == {
        changed: "SOLVER.BASE_LR changed in the middle of the run (--resume)",
        other: "not the result of a detection run",
    }
    assert f"- Left out: {changed}: SOLVER.BASE" in as_markdown([], left_out).replace("\\", "")


def test_a_figure_that_one_run_lacks_is_not_averaged(tmp_path: Path) -> None:
    write(tmp_path, "automix", 0, 10.0)
    lacking = write(tmp_path, "automix", 1, None)
    nan = write(tmp_path, "cutmix", 1, math.nan)
    write(tmp_path, "mixup", 1, math.inf)
    [table] = tables(tmp_path)
    assert [math.isnan(table.rows[start]["AP50"].mean) for start in ("automix", "cutmix", "mixup")] == [True] * 3
    assert f"AP50 from automix is not averaged: {lacking} has no such figure." in table.notes
    assert f"AP50 from cutmix is not averaged: {nan} has no such figure." in table.notes
    assert "| automix | not computed |" in as_markdown([table], {})


def test_refusals(tmp_path: Path) -> None:
    path = write(tmp_path, "automix", 0, 1.0)
    same = path.parent / ".." / path.parent.name / path.name
    assert len(read_runs([path, tmp_path, same])[0]) == 1  # one file, named in three ways
    again = write(tmp_path, "automix", 0, 1.0)
    with pytest.raises(UserError, match=rf"{again}: a second run of seed 0 from the same weights \(automix\)"):
        read_runs([tmp_path])
    other = write(tmp_path, "automix teacher", 0, 1.0)
    write(tmp_path, "automix student", 0, 1.0)
    with pytest.raises(UserError, match="which, automix student or automix teacher"):
        build_tables(read_runs([other, *tmp_path.rglob("automix student*/results.json")])[0], "automix")
    (tmp_path / "other.json").write_text('{"framework": "Detectron2 0.6"}')
    with pytest.raises(UserError, match=r"other\.json: not the results\.json of a detection run \(it lacks config, st"):
        read_runs([tmp_path / "other.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no results.json below this folder"):
        read_runs([tmp_path / "empty"])
    with pytest.raises(UserError, match="nowhere: no such file"):
        read_runs([tmp_path / "nowhere"])


def test_a_start_is_a_method_and_a_branch() -> None:
    names = ("automix teacher", "AutoMix", "random", "state dict", "teacher")
    assert [method_of(name) for name in names] == ["automix", "automix", "random", "state dict", "teacher"]


def test_command_line(tmp_path: Path) -> None:
    for seed, value in enumerate((81.0, 81.3, 81.2)):
        write(tmp_path, "vanilla", seed, value, VOC)
        write(tmp_path, "automix teacher", seed, value + 1.4, VOC)
    command = [sys.executable, str(ROOT / "tools" / "summarize.py"), str(tmp_path)]
    command += ["--json", str(tmp_path / "out.json"), "--markdown", str(tmp_path / "out.md")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "82.57 ± 0.15, n = 3" in done.stdout
    assert "paper 82.4, +0.17" in done.stdout
    assert "higher" in done.stdout
    cell = json.loads((tmp_path / "out.json").read_text())["tables"][0]["rows"][1]["cells"]["VOC mAP (AP50)"]
    assert (cell["paper"], cell["n"], round(cell["difference_from_paper"], 2)) == (82.4, 3, 0.17)
    assert "| automix teacher | 82.57 ± 0.15, n = 3; paper 82.4, +0.17 |" in (tmp_path / "out.md").read_text()


def test_columns_without_a_test_share_a_row(tmp_path: Path) -> None:
    """One seed each: three columns, one reason, one line in print; each column for itself in JSON."""
    write(tmp_path, "vanilla", 0, 81.0)
    write(tmp_path, "mixup", 0, 82.0)
    lines = [line for line in as_markdown(tables(tmp_path), {}).splitlines() if "no test" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| AP, AP50, AP75"]
    [plain] = as_json(tables(tmp_path), {})["tables"]
    assert [one["column"] for one in plain["comparisons"]] == ["AP", "AP50", "AP75"]
