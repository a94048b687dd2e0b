"""The configs of the paper's tables: what they are set to, what their notes say, and that all of them can be built."""

import ast
import csv
import re
from operator import attrgetter

import pytest

from pretrain.console import UserError
from pretrain.data.prepare import DATA_SETS
from pretrain.training.cells import CONFIGS, caption, cells
from pretrain.training.check import check, check_all, config_files
from pretrain.training.settings import load_settings

COLUMNS = sorted({cell.config for cell in cells()})
BY_SIZE = ["mixup", "cutmix", "saliencymix", "fmix", "resizemix"]  # A.1 sets them by data set and network
SETS = {data_set.key: data_set for data_set in DATA_SETS}


def _settings(config, method=None):
    return load_settings(CONFIGS / "pretrain" / f"{config}.py", method=method)


def test_the_tables_are_whole():
    """Counted in the paper: columns, rows, and the dash of TransMix on ConvNeXt-T."""
    sizes = {1: 7 * 10, 2: 9 * 9, 3: 5 * 9, 4: 3 * 10 - 1, 5: 10 * 9, 13: 8 * 9, 14: 8 * 10}
    assert {table: len(cells(table)) for table in sizes} == sizes
    assert len(cells()) == sum(sizes.values())
    assert all(caption(table).startswith(f"Table {table}. ") for table in sizes)
    assert all(25 < cell.figure < 100 for cell in cells())


@pytest.mark.parametrize(
    ("table", "gains"),  # the paper's last row: AutoMix over the best of the others
    [
        (1, [0.19, 0.32, 0.87, 0.73, 0.13, 1.41, 2.70]),  # the paper prints 0.76 for RX-50 on CIFAR-100
        (2, [0.38, 0.26, 0.37, 0.44, 0.34, 0.22, 0.26, 0.34, 0.31]),
        (3, [0.36, -0.09, 0.51, 0.32, 0.99]),  # and 0.23 for EfficientNet-B0 A2, beside PuzzleMix's 77.35
        (4, [0.08, 0.00, 0.18]),
        (5, [0.11, 0.18, 0.61, 0.12, 0.42, 0.31, 0.37, 0.37, 0.08, 0.15]),
    ],
)
def test_the_figures_give_the_papers_gains(table, gains):
    """A figure that was copied wrongly would move a gain, unless neither it nor AutoMix's is the best."""
    found = []
    for config in dict.fromkeys(cell.config for cell in cells(table)):
        figures = {cell.method: cell.figure for cell in cells(table) if cell.config == config}
        best = figures.pop("automix")
        found.append(best - max(figures.values()))
    assert found == pytest.approx(gains, abs=0.006)


def test_cells_are_found_by_table_config_and_method():
    [cell] = cells(2, "imagenet/r50_100ep", "cutmix")
    assert (cell.figure, cell.path.is_file()) == (77.17, True)
    assert cell.command == "tools/pretrain.sh configs/pretrain/imagenet/r50_100ep.py --method cutmix"
    assert [cell.figure for cell in cells(config="cifar100/r18_800ep", method="automix")] == [82.04, 82.04]
    assert [(cell.config, cell.method) for cell in cells() if not cell.trainable] == [
        ("imagenet/swint_300ep", "transmix")
    ]
    with pytest.raises(UserError, match=r"table 7: .* 1, 2, 3, 4, 5, 13, 14"):
        cells(7)
    with pytest.raises(UserError, match="no cell"):
        cells(2, "cifar")


@pytest.mark.parametrize("config", COLUMNS)
def test_a_config_is_named_after_its_file(config):
    assert _settings(config).name == config
    assert _settings(config).method.name == "automix"


@pytest.mark.parametrize("config", COLUMNS)
def test_a_note_has_the_papers_figures_and_the_cost(config):
    path = CONFIGS / "pretrain" / f"{config}.py"
    note = " ".join(ast.get_docstring(ast.parse(path.read_text())).split())
    of_config = [cell for cell in cells() if cell.config == config]
    first = [cell for cell in of_config if cell.table == of_config[0].table]
    figures = {cell.method: cell.figure for cell in first}
    baseline = figures.get("vanilla", figures.get("random_choice"))
    assert f"AutoMix {figures['automix']:.2f} top-1" in note
    assert f" {baseline:.2f}, the paper's" in note
    assert all(str(table) in note.partition("Expected")[0] for table in {cell.table for cell in of_config})
    settings = _settings(config)
    steps = SETS[config.partition("/")[0]].images["train"] // settings.data.batch_size * settings.optim.epochs
    assert f"Cost: {steps:,} steps of {settings.data.batch_size} images" in note
    assert f"tools/pretrain.sh configs/pretrain/{config}.py" in note


@pytest.mark.parametrize("config", COLUMNS)
def test_a_config_reads_what_the_prepare_tool_of_its_data_set_writes(config):
    key = config.partition("/")[0]
    data = _settings(config).data
    assert (data.root, data.prepare) == (f"data/{key}", SETS[key].command)
    assert (CONFIGS.parent / SETS[key].config).is_file()


def _papers_alphas(config):
    """Appendix A.1, "Reproduction settings"."""
    data, _, network = config.partition("/")
    constant = {"puzzlemix": 1, "comixup": 2, "automix": 2}
    if data in ("cifar10", "cifar100"):
        own = {"mixup": 1, "resizemix": 1, "cutmix": 0.2, "fmix": 0.2, "saliencymix": 0.2, "manifoldmix": 2}
    elif data in ("cub200", "aircraft"):
        own = {**dict.fromkeys(BY_SIZE, 1), "saliencymix": 0.2, "fmix": 0.2, "manifoldmix": 0.5}
    elif data.startswith("inat"):
        own = {**dict.fromkeys(BY_SIZE, 1), "mixup": 0.2, "manifoldmix": 0.2}
    else:
        small = network.startswith("r18") or data == "places205" or _settings(config).optim.name != "momentum"
        own = {**dict.fromkeys(BY_SIZE, 0.2 if small else 1), "manifoldmix": 0.2}
    return {**own, **constant}


@pytest.mark.parametrize("config", COLUMNS)
def test_alphas_are_the_papers(config):
    alphas = _papers_alphas(config)
    assert {name: _settings(config, name).method.alpha for name in alphas} == alphas


COLUMNS_OF_TABLE_12 = ["imagenet/r50_100ep", "imagenet/deits_300ep", "imagenet/effb0_a2_300ep", "imagenet/r50_a3_100ep"]
TABLE_12 = {
    "data.transform.size": (224, 224, 224, 160),
    "data.transform.test_size": (None, None, None, 224),  # None: as in training
    "data.transform.test_crop_ratio": (0.875, 0.875, 0.95, 0.95),
    "optim.epochs": (100, 300, 300, 100),
    "data.batch_size": (256, 1024, 2048, 2048),
    "optim.lr_batch_size": (256, 1024, 2048, 2048),
    "optim.name": ("momentum", "adamw", "lamb", "lamb"),
    "optim.lr": (0.1, 1e-3, 5e-3, 8e-3),
    "optim.weight_decay": (1e-4, 0.05, 0.02, 0.02),
    "optim.warmup_epochs": (0, 5, 5, 5),
    "loss.smoothing": (0, 0.1, 0, 0),
    "backbone.drop_rate": (0, 0, 0, 0),
    "backbone.drop_path_rate": (0, 0.1, 0.05, 0),
    "data.repeated_augmentation": (1, 3, 3, 1),
    "optim.clip_norm": (None, 1.0, None, None),
    "data.transform.flip": (0.5, 0.5, 0.5, 0.5),
    "data.transform.train_crop": ("resized", "resized", "resized", "resized"),
    "data.transform.auto_augment": (None, *(f"rand-m{m}-mstd0.5-inc1" for m in (9, 7, 6))),
    "data.transform.erasing": (0, 0.25, 0, 0),
    "data.transform.color_jitter": (0, 0, 0, 0),
    "optim.ema_decay": (None, 0.99996, None, None),
    "loss.name": ("ce", "ce", "bce", "bce"),
    "run.precision": ("32-true", "32-true", "bf16-mixed", "bf16-mixed"),
}


@pytest.mark.parametrize("key", TABLE_12)
def test_ingredients_are_those_of_table_12(key):
    assert tuple(attrgetter(key)(_settings(config)) for config in COLUMNS_OF_TABLE_12) == TABLE_12[key]


@pytest.mark.parametrize(
    ("config", "alphas"), [("imagenet/deits_300ep", (0.8, 1.0)), ("imagenet/r50_a3_100ep", (0.1, 1.0))]
)
def test_the_rows_deit_and_rsb_mix_as_table_12_says(config, alphas):
    method = _settings(config, "random_choice").method
    assert (method.mixup_alpha, method.cutmix_alpha) == alphas


@pytest.mark.parametrize(
    ("config", "lr", "decay", "batch", "epochs"),  # Sections 4.1 and 4.2
    [
        ("cifar10/rx50_800ep", 0.1, 1e-4, 100, 800),
        ("cifar100/r18_1200ep", 0.1, 1e-4, 100, 1200),
        ("tiny/rx50_400ep", 0.2, 1e-4, 100, 400),
        ("imagenet/r101_300ep", 0.1, 1e-4, 256, 300),
        ("aircraft/rx50_200ep", 1e-3, 5e-4, 16, 200),
        ("inat2017/rx101_100ep", 0.1, 1e-4, 256, 100),
        ("places205/r18_100ep", 0.1, 1e-4, 256, 100),
    ],
)
def test_procedures_of_the_text(config, lr, decay, batch, epochs):
    s = _settings(config)
    assert (s.optim.name, s.optim.momentum, s.optim.min_lr) == ("momentum", 0.9, 0.0)
    assert (s.optim.lr, s.optim.weight_decay, s.data.batch_size, s.optim.epochs) == (lr, decay, batch, epochs)


def test_every_config_can_be_built():
    results = list(check_all(config_files()))
    assert [f"{result.path.name}, {result.method}: {result.problem}" for result in results if result.problem] == []
    built = {(result.path, result.method) for result in results}
    assert {(cell.path, cell.method) for cell in cells() if cell.trainable} <= built


def test_a_config_that_cannot_be_built_is_named(tmp_path):
    path = tmp_path / "odd.py"
    text = 'name = "odd"\ndata = dict(root="x")\nmethod = dict(name="automix", feature_layer=4)\n'
    path.write_text(text + 'backbone = dict(name="cifar_resnet20")\n')
    assert "the backbone has stages 1 to 3" in check(path, "automix").problem
    path.write_text(text + 'backbone = dict(name="resnet18", pretrained="resnet18.nobody")\n')
    assert "not one of timm's pretrained networks" in check(path, "mixup").problem


def test_tables_are_written_in_one_form():
    for path in (CONFIGS / "tables").glob("*.csv"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        rows = list(csv.reader(lines))
        assert all(len(row) == len(rows[0]) for row in rows), path
        assert all(re.fullmatch(r"\d\d\.\d\d!?|", figure) for row in rows[1:] for figure in row[1:]), path
