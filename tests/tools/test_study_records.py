"""The study's records: what a cell leaves, and the tables, curves and pages made of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evidence import stages as chain
from evidence.paper import cells_of
from evidence.study import cost, figures, plan, records, report, scenes, tables
from pretrain.console import UserError
from pretrain.evaluation.looks import MaskLook, look_stem

CONDITIONS = {c.key: c for c in plan.CONDITIONS}
MEASURED = cost.COSTS
BINS = {"confidence": [None, 0.9], "accuracy": [None, 0.8], "counts": [0, 10]}


@pytest.fixture(autouse=True)
def costs(tmp_path_factory, monkeypatch):
    """Every way of training costs three times what vanilla does."""
    path = tmp_path_factory.mktemp("costs") / "cost.json"
    factors = {**dict.fromkeys(CONDITIONS, 3.0), "vanilla": 1.0}
    chain.write_json(path, {source.key: factors for source in plan.SOURCES})
    monkeypatch.setattr(cost, "COSTS", path)
    return path


def _record(condition, seed, top1, source="digits", **evaluation):
    branch = "teacher" if CONDITIONS[condition].has_teacher else "model"
    measured = {
        "images": 9,
        "top1": top1,
        "top5": 99.0,
        "calibration": BINS,
        "ece": 1.0,
        "fgsm_error": 50.0,
        "mixed": {"mixup": {"mixed_acc2": 10.0, "lambda_0.5": {"mixed_acc2": 30.0}}},
        **evaluation,
    }
    accuracy = {f"{branch}_top1": top1, f"{branch}_top5": 99.0}
    if branch == "teacher":
        accuracy["student_top1"] = top1 - 1
    return records.CellRecord(
        *(source, condition, seed, "0" * 16, "2026-11-27 10:00", {}, branch, 1000, 10.0, accuracy),
        curve=[[10, 1.0, top1]],
        last={"total": 1.0, "lam_error": 0.125},
        evaluation=measured,
        mask_spread=0.25 if condition == "automix" else None,
    )


@pytest.mark.parametrize("source", plan.SOURCES, ids=lambda source: source.key)
def test_a_record_holds_what_the_commands_left(tmp_path, monkeypatch, source):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    cell = plan.Cell(source, CONDITIONS["automix"], 1)
    folder, run = tmp_path / cell.folder, tmp_path / cell.run
    accuracy = {"teacher_top1": 61.5, "teacher_top5": 80.0, "student_top1": 60.0, "student_top5": 79.0}
    chain.write_json(
        run / "result.json",
        {"branch": "teacher", "environment": {"torch": "2"}, "steps": 90, "train_seconds": 12.34, "accuracy": accuracy},
    )
    log = [
        {"step": 40, "lr": 0.1, "total": 3.0, "lam_error": 0.2},
        {"step": 45, "epoch": 1, "elapsed": 6.06, "teacher_top1": 50.12345, "student_top1": 49.0},
        {"step": 80, "lr": 0.1, "total": 2.0, "lam_error": 0.1},
        {"step": 90, "epoch": 2, "elapsed": 12.0, "teacher_top1": 61.5, "student_top1": 60.0},
    ]
    (run / "log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in log))
    measured = {"images": 9, "top1": 61.5, "top5": 80.0, "ece": 1.5, "calibration": {}, "fgsm_error": 90.0, "mixed": {}}
    MaskLook(torch.zeros(2, 3, 1, 2).byte(), torch.tensor([[[[0.0, 0.5]]]]).half()).save(look_stem(run, 2))
    chain.write_json(folder / "evaluation/evaluation.json", {"checkpoint": "c", "data": {"root": "d"}, **measured})
    wsol = {"max_box_acc_v2": {"mean": 40.0}, "centre_baseline": {"mean": 30.0}, "images": 7, "by": "x"}
    chain.write_json(folder / "wsol/wsol.json", wsol)
    chain.write_json(folder / "detection/results.json", {"AP": 10.0, "AP50": 20.0, "AP75": 5.0, "steps": 3})
    stages = plan.stages(cell)[1:]
    for number, stage in enumerate(stages):
        chain.write_json(folder / f"stages/{stage.name}.json", {"seconds": number + 0.26})
    record = records.write_record(cell)
    assert records.read_records(tmp_path / records.RECORDS) == [record]
    assert (record.name, record.branch, record.top1, record.accuracy) == (cell.name, "teacher", 61.5, accuracy)
    assert (record.steps, record.train_seconds, record.fingerprint) == (90, 12.3, records.fingerprint_of(cell))
    assert record.curve == [[45, 6.1, 50.123], [90, 12.0, 61.5]]
    assert record.last == {"total": 2.0, "lam_error": 0.1}
    assert record.evaluation == measured
    assert record.mask_spread == 0.25
    assert record.seconds == {stage.name: number + 0.3 for number, stage in enumerate(stages)}
    assert records.outdated([record]) == []
    if source.scenes:
        assert record.wsol == {"max_box_acc_v2": 40.0, "centre": 30.0, "images": 7}
        assert record.detection == {"AP": 10.0, "AP50": 20.0, "AP75": 5.0}
        assert tables.main_table([record], source).splitlines()[2].split(" | ")[-3:-1] == ["40.0", "20.0"]
    else:
        assert (record.wsol, record.detection) == (None, None)


def test_tables_have_means_sample_deviations_and_seeds():
    """By hand: 90, 92, 94 have mean 92 and sample deviation 2; 95 and 97 have 96 and the root of 2."""
    found = [_record("vanilla", seed, top1) for seed, top1 in enumerate((90.0, 92.0, 94.0))]
    found += [_record("automix", seed, top1) for seed, top1 in enumerate((95.0, 97.0))]
    lines = tables.main_table(found, plan.SOURCES[1]).splitlines()
    assert lines[2] == "| Vanilla | 3 | 92.0 ± 2.0 | 1.0 ± 0.0 | 50.0 ± 0.0 | 30.0 ± 0.0 | – | 1.0 |"
    assert lines[3].startswith("| AutoMix | 2 of 3 | 96.0 ± 1.4 |")
    assert lines[3].endswith("| 3.0 |")
    assert len(lines) == 4
    ablation = tables.ablation_table(found, 10)
    assert "| Mix Block, + MP + CE | 67.33 | – (0 of 3) | 96.0 ± 1.4 (2 of 3) |" in ablation
    assert "MixUp" not in ablation
    assert "| AutoMix | 2 of 3 | 96.0 ± 1.4 | 95.0 ± 1.4 | 12.5 ± 0.0 | 25.0 ± 0.0 |" in tables.networks_table(
        found, plan.SOURCES[1]
    )


def test_the_tests_of_the_table_are_welchs_with_holms_correction():
    """Two groups of three with means 92 and 96 and deviations 2: t = 2.449, 4 degrees of freedom, p = 0.0705."""
    found = [_record("vanilla", seed, top1) for seed, top1 in enumerate((90.0, 92.0, 94.0))]
    found += [_record("automix", seed, top1) for seed, top1 in enumerate((94.0, 96.0, 98.0))]
    assert tables.welch_table(found, plan.SOURCES[1]).splitlines()[2:] == [
        "| Vanilla | +4.0 | -0.5 to +8.5 | 0.070 | 0.070 | no difference shown |"
    ]
    found += [_record("mixup", seed, top1) for seed, top1 in enumerate((70.0, 70.1, 70.2))]
    rows = tables.welch_table(found, plan.SOURCES[1]).splitlines()[2:]
    assert rows[0].endswith("| 0.070 | 0.070 | no difference shown |")  # the larger p keeps its value
    assert rows[1].startswith("| MixUp | +25.9 |")
    assert rows[1].endswith("| higher |")


def test_p_is_corrected_for_the_number_of_tests():
    """Holm: of two tests with the same p, each has twice as much: 0.0705 becomes 0.141."""
    found = [_record("automix", seed, top1) for seed, top1 in enumerate((94.0, 96.0, 98.0))]
    for key in ("vanilla", "mixup"):
        found += [_record(key, seed, top1) for seed, top1 in enumerate((90.0, 92.0, 94.0))]
    rows = tables.welch_table(found, plan.SOURCES[1]).splitlines()[2:]
    assert [row.split(" | ")[3:5] for row in rows] == [["0.070", "0.141"]] * 2


def test_each_table_and_picture_has_the_conditions_that_belong_there():
    keys = ("vanilla", "automix", "no_ce", "mixup", "lam_embedding")
    found = [_record(key, 0, 90.0) for key in keys]
    shown = report.tables(found)
    assert list(shown) == [
        *("state", "scenes", "scenes-tests", "scenes-ablation-tests", "scenes-networks"),
        *("digits", "digits-tests", "digits-ablation-tests", "digits-networks", "table-9", "table-10"),
    ]
    assert shown["state"] == "5 of 102 cells are filled."
    assert shown["scenes"] == "No cell of this source is filled yet."
    firsts = {name: [line.split(" | ")[0][2:] for line in table.splitlines()[2:]] for name, table in shown.items()}
    assert firsts["digits"] == ["Vanilla", "MixUp", "AutoMix"]
    assert firsts["digits-tests"] == ["Vanilla", "MixUp"]
    assert firsts["digits-ablation-tests"] == ["AutoMix without l_λ", "AutoMix without CE"]
    assert firsts["table-9"] == ["+ lambda embedding", "+ l_lambda"]
    assert firsts["table-10"] == ["MixUp, none", "Mix Block, + MP", "Mix Block, + MP + CE"]
    figure = figures.draw_curves(found, plan.SOURCES[1])
    assert [text.get_text() for text in figure.legends[0].texts] == ["Vanilla", "MixUp", "AutoMix"]


def test_the_band_reaches_from_the_lowest_seed_to_the_highest():
    curves = (
        [[10, 1.0, 50.0], [20, 2.0, 70.0]],
        [[10, 1.0, 54.0], [20, 2.0, 60.0]],
        [[10, 1.0, 52.0], [20, 2.0, 80.0]],
    )
    found = [replace(_record("vanilla", seed, 90.0), curve=curve) for seed, curve in enumerate(curves)]
    axes = figures.draw_curves(found, plan.SOURCES[1]).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [52.0, 70.0]
    corners = {tuple(point) for point in axes.collections[0].get_paths()[0].vertices.tolist()}
    assert corners == {(10.0, 50.0), (10.0, 54.0), (20.0, 60.0), (20.0, 80.0)}
    assert axes.get_ylim()[0] == pytest.approx(20)  # the ends, 60 to 80, have a third of what lies below 80


def test_cost_is_means_over_the_seeds_and_calibration_is_of_the_methods_that_are_compared():
    found = [_record("vanilla", seed, top1) for seed, top1 in enumerate((80.0, 84.0))]
    found += [_record("automix", 1, 90.0), _record("no_ce", 0, 85.0)]
    axes = figures.draw_cost(found, plan.SOURCES[1]).axes[0]
    points = sorted(tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() not in ("_", "None"))
    assert points == [pytest.approx(each) for each in ((1000, 82.0), (3000, 85.0), (3000, 90.0))]
    assert axes.get_xlabel() == "training time (vanilla steps)"
    titles = [axes.get_title() for axes in figures.draw_reliability(found, plan.SOURCES[1]).axes]
    assert [title for title in titles if title] == ["vanilla\nECE 1.0 %", "automix\nECE 1.0 %"]


def test_the_scenes_are_those_that_the_published_records_were_made_of():
    """Other pictures would make other figures, beside which the records of docs/ no longer belong."""
    settings = scenes.SETTINGS
    assert (settings.classes, settings.train_images, settings.val_images) == (40, 10, 20)
    assert (settings.voc2007_test, settings.cub_val, settings.cub_test) == (200, 5, 20)
    assert settings.classification_style is scenes.CLASSES
    assert (scenes.CLASSES.occlusion, scenes.CLASSES.truncation, scenes.CLASSES.distractors) == (0.4, 0.25, (1, 4))


def test_records_come_back_as_they_were_written_and_odd_ones_are_named(tmp_path):
    record = _record("automix", 2, 96.0)
    chain.write_json(tmp_path / f"{record.name}.json", records.asdict(record))
    assert records.read_records(tmp_path) == [record]
    lines = tmp_path / "records.jsonl"
    lines.write_text(records.dumps([replace(record, seed=1), record, _record("vanilla", 0, 90.0)]))
    assert [r.name for r in records.read_records(lines)] == [
        *("digits-vanilla-0", "digits-automix-1", "digits-automix-2")
    ]
    chain.write_json(tmp_path / "odd.json", {"source": "digits"})
    with pytest.raises(UserError, match=r"odd\.json: not a record of the study"):
        records.read_records(tmp_path)
    chain.write_json(tmp_path / "odd.json", {**records.asdict(record), "condition": "dropped"})
    with pytest.raises(UserError, match=r"odd\.json: the study has no such cell any more; remove it"):
        records.read_records(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda line: line[:40], r"line 2: not valid JSON \(.*\); remove the line"),
        (lambda line: "", r"line 2: not valid JSON"),
        (lambda line: "[1]", r"line 2: not a record of the study \(.*\); remove it, or name another place"),
        (
            lambda line: line.replace('"seed":1', '"seed":"one"'),
            r"line 2: not a record of the study \(seed: .*integer",
        ),
        (lambda line: line.replace('"seed":1', '"seed":3'), "line 2: the study has no such cell any more"),
        (lambda line: line.replace("model_top1", "modell_top1"), r"line 2: .* without accuracy\.model_top1;"),
        (lambda line: line.replace('"mixed"', '"mixt"'), r"line 2: .* without evaluation\.mixed;"),
        (lambda line: line.replace("[[10,1.0,92.0]]", "[[10,1.0]]"), "line 2: .* without curve of step"),
        (
            lambda line: line.replace('"seed":1', '"seed":0'),
            "line 2: digits-vanilla-0 is in .*, line 1 too; remove one",
        ),
    ],
)
def test_damaged_records_are_named_by_their_line(tmp_path, damage, message):
    lines = records.dumps([_record("vanilla", 0, 90.0), _record("vanilla", 1, 92.0)]).splitlines()
    assert damage(lines[1]) != lines[1]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join([lines[0], damage(lines[1]), lines[0]]))
    with pytest.raises(UserError, match=message):
        records.read_records(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="line 1: not valid JSON"):
        records.read_records(path)


def test_there_is_no_test_without_spread_or_second_seed_and_the_table_says_so():
    found = [_record("automix", seed, 95.0) for seed in range(3)] + [
        _record("vanilla", seed, 90.0) for seed in range(2)
    ]
    found += [_record("mixup", 0, 96.0), _record("cutmix", 0, 90.0), _record("cutmix", 1, 92.0)]
    rows = tables.welch_table(found, plan.SOURCES[1]).splitlines()[2:]
    assert rows[:2] == [
        "| Vanilla | +5.0 | – | – | – | no test: no spread over the seeds of either |",
        "| MixUp | -1.0 | – | – | – | no test: one seed |",
    ]
    assert rows[2].startswith("| CutMix | +4.0 | -")
    assert len(rows) == 3


def test_figures_that_a_record_lacks_are_dashes_and_a_method_without_student_has_no_row():
    found = [_record("random_grids", 0, 90.0), _record("automix", 0, 91.0, mixed={}), _record("vanilla", 0, 80.0)]
    found[0].last.pop("lam_error")
    assert "| AutoMix | 1 of 3 | 91.0 | 1.0 | 50.0 | – | – | 3.0 |" in tables.main_table(found, plan.SOURCES[1])
    shown = tables.networks_table(found, plan.SOURCES[1]).splitlines()[2:]
    assert [line.split(" | ")[0] for line in shown] == ["| AutoMix", "| Random grids + MP + CE"]
    assert shown[1].endswith("| 90.0 | 89.0 | – | – |")


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """Two records of one method whose evaluations differ in number, and one of another."""
    monkeypatch.setattr(report, "ROOT", tmp_path)
    curve = [[10, 1.0, 50.0], [20, 2.0, 90.0]]
    found = [replace(_record("vanilla", 0, 90.0), curve=curve), _record("vanilla", 1, 92.0), _record("mixup", 0, 93.0)]
    now = records.fingerprint_of(plan.Cell(plan.SOURCES[1], CONDITIONS["mixup"], 0))
    found[2] = replace(found[2], fingerprint=now)
    path = tmp_path / "ü r.jsonl"
    path.write_text(records.dumps(found))
    return path


def test_the_report_writes_page_records_and_curves_and_tells_of_old_commands(filled, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("A\n<!-- table: digits -->\n<!-- end -->\n")
    report.write_report(filled, page)
    work = tmp_path / plan.WORK
    assert sorted(path.name for path in work.iterdir()) == [
        *("calibration_digits.png", "cost_digits.png", "curves_digits.png", "records.jsonl", "study.md")
    ]
    assert (work / "records.jsonl").read_text() == filled.read_text()
    assert "3 of 102 cells are filled." in (work / "study.md").read_text()
    assert "| Vanilla | 2 of 3 | 91.0 ± 1.4 |" in page.read_text()
    told = capsys.readouterr()
    assert "2 of 3 records were made by other commands or configs than the present ones" in told.err
    assert "digits-vanilla-0, digits-vanilla-1)" in told.err
    assert "| MixUp | 1 of 3 | 93.0 |" in told.out


def test_a_page_that_cannot_be_filled_is_told_before_anything_is_written(filled, tmp_path):
    page = tmp_path / "page.md"
    for text, message in (
        (None, r"--page .*page\.md: cannot be read"),
        ("no block", r"--page .*page\.md: has no block to fill; write '<!-- table: state -->'"),
        (
            "<!-- table: none -->\n<!-- end -->",
            r"--page .*page\.md: the page has a block 'none'; there are tables for state, scenes",
        ),
    ):
        if text:
            page.write_text(text)
        with pytest.raises(UserError, match=message):
            report.write_report(filled, page)
    assert not (tmp_path / plan.WORK).exists()


def test_curves_are_means_over_the_seeds_that_were_evaluated_as_often(filled):
    found = records.read_records(filled)
    found.append(replace(found[1], seed=2, curve=[[10, 3.0, 94.0]]))
    figure = figures.draw_curves(found, plan.SOURCES[1])
    by_step, by_time = figure.axes
    lines = [(line.get_label(), line.get_xydata().tolist()) for line in by_time.lines]
    assert lines[0] == ("Vanilla", [[10.0, 50.0], [20.0, 90.0]])
    assert lines[1][1] == [[10.0, 93.0]]  # seeds 1 and 2: 92 and 94
    assert lines[2] == ("MixUp", [[30.0, 93.0]])  # 10 steps at three times the cost
    assert [line.get_xdata().tolist() for line in by_step.lines] == [[10, 20], [10], [10]]
    assert [text.get_text() for text in figure.legends[0].texts] == ["Vanilla", "MixUp"]


def test_a_page_has_its_blocks_filled_and_keeps_the_rest():
    page = "Before\n<!-- table: digits -->\nold\n<!-- end -->\nbetween\n<!-- table: table-9 --><!-- end -->\n"
    page = page.replace("--><!-- end", "-->\n<!-- end")
    filled = report.fill_blocks(page, {"digits": "NEW", "table-9": "NINE"})
    assert filled == (
        "Before\n<!-- table: digits -->\n\nNEW\n\n<!-- end -->\nbetween\n"
        "<!-- table: table-9 -->\n\nNINE\n\n<!-- end -->\n"
    )
    assert report.fill_blocks(filled, {"digits": "NEW", "table-9": "NINE"}) == filled
    with pytest.raises(UserError, match="a block 'table-9'; there are tables for digits"):
        report.fill_blocks(page, {"digits": "NEW"})


def test_every_row_of_tables_9_and_10_has_its_condition():
    cells = {
        table: {(c.row, c.column) for c in cells_of(table) if c.column.startswith(tables.COLUMN)} for table in (9, 10)
    }
    for table, conditions in ((9, tables.TABLE_9), (10, tables.TABLE_10)):
        assert {(row, f"{tables.COLUMN}/{method}".rstrip("/")) for row, method in conditions} == cells[table]
        assert set(conditions.values()) <= set(CONDITIONS)
    ending = {"none": "", "+ MP": "_mp", "+ MP + CE": "_mp_ce"}
    for (row, method), key in tables.TABLE_10.items():
        if method != "automix":
            assert key == method + ending[row]


def test_the_page_has_the_tables_of_the_records_beside_it(monkeypatch):
    """`python tools/study.py --report --records docs/study.jsonl --page docs/study.md` would change nothing."""
    monkeypatch.setattr(cost, "COSTS", MEASURED)
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "study.md").read_text(encoding="utf-8")
    assert report.fill_blocks(page, report.tables(records.read_records(docs / "study.jsonl"))) == page


def test_what_was_not_measured_is_named_with_the_command(costs):
    chain.write_json(costs, {"digits": {"vanilla": 1.0}})
    assert cost.cost_of(_record("vanilla", 0, 90.0)) == 1.0
    with pytest.raises(
        UserError, match=r"has no cost of digits, automix; measure it: python benchmarks/study_steps\.py"
    ):
        cost.cost_of(_record("automix", 0, 90.0))
    costs.unlink()
    with pytest.raises(UserError, match="has no cost of digits, vanilla"):
        cost.cost_of(_record("vanilla", 0, 90.0))
