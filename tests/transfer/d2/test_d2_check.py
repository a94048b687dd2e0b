"""The config against the card and the protocol: what is refused, what the command line may do, all of it at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from networks import randomised

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.convert import convert
from transfer.d2.config import load_config, read_config
from transfer.d2.finetune import Job, check_only
from transfer.files import save
from transfer.finetuning.check import departures

CONFIGS = Path(__file__).parents[3] / "configs"
C4, FPN = CONFIGS / "d2" / "voc_r50_c4_24k.yaml", CONFIGS / "d2" / "coco_r50_fpn_1x.yaml"
R50 = BackboneCard(arch="resnet50", classes=(), method="automix")
NORM, FPN_NORM, FREEZE = "MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "MODEL.BACKBONE.FREEZE_AT"
HEADS = "MODEL.ROI_HEADS.NAME"


def written(folder: Path, base: Path, **settings: str) -> Path:
    """Write a YAML over `base`; a keyword MODEL__RESNETS__NORM="GN" becomes the key MODEL.RESNETS.NORM."""
    lines = [f'_BASE_: "{base}"']
    for name, value in settings.items():
        *sections, last = name.split("__")
        lines += [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
        lines += [f"{'  ' * len(sections)}{last}: {value}"]
    path = folder / "own.yaml"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (C4, ["INPUT.FORMAT", "BGR"], r"INPUT\.FORMAT is BGR, but the weights \(resnet50, automix\).* with RGB; take"),
        (C4, ["MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"], r"PIXEL_STD is .*58\.395.* \(std 1 belongs to .*Caffe weights"),
        (
            C4,
            ["MODEL.PIXEL_STD", "[57.375, 57.12, 58.395]"],
            r"PIXEL_STD is \[57\.375.*trained with \[58\.395, .*\]; ta",
        ),
        (C4, ["MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]"], r"PIXEL_MEAN is \[0\.0, .*with \[123\.675, 116\.28, 103\.53\]"),
        (C4, ["MODEL.RESNETS.STRIDE_IN_1X1", "True"], r"STRIDE_IN_1X1 is True, .*with False"),
        (C4, ["MODEL.RESNETS.DEPTH", "101"], r"DEPTH is 101, but the weights .* have 50; set MODEL\.RESNETS\.DEPTH 50"),
        (C4, ["MODEL.RESNETS.NUM_GROUPS", "32"], r"NUM_GROUPS is 32, .* have 1; set"),
        (
            C4,
            [NORM, "GN"],
            r"NORM is GN, but the weights' norms are BatchNorm, .*lost; set MODEL\.RESNETS\.NORM SyncBN",
        ),
        (FPN, [NORM, "LN"], r"NORM is LN, .*lost"),
        (FPN, [NORM, ""], r'NORM is "", .*lost'),
        (C4, [NORM, "FrozenBN"], r"ExtraNorm, whose extra norm is fresh: with MODEL\.RESNETS\.NORM FrozenBN"),
        (FPN, [FPN_NORM, "FrozenBN"], r"FPN\.NORM is FrozenBN, a fresh norm frozen"),
        (FPN, [FPN_NORM, "SynBN"], r"FPN\.NORM is SynBN, but it can be one of SyncBN"),
        (FPN, [NORM, "BN"], r"FPN\.NORM is SyncBN, but MODEL\.RESNETS\.NORM is BN .*; set MODEL\.FPN\.NORM BN"),
        (C4, ["MODEL.WEIGHTS", "R-50.pkl"], r"MODEL\.WEIGHTS is R-50\.pkl, but weights come by --weights"),
        (C4, ["MODEL.MASK_ON", "True"], r"MASK_ON is True, but VOC's"),
        (C4, ["SOLVER.REFERENCE_WORLD_SIZE", "8"], r"REFERENCE_WORLD_SIZE is 8, .*use --scale-to"),
        (C4, ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"], r"SAMPLER_TRAIN is Repeat.*resumed exactly"),
        (C4, ["DATASETS.TEST", "()"], r"DATASETS\.TEST is \(\), 0 data sets; it must name one"),
    ],
)
def test_contradictions(config: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(config, R50, overrides)
    assert "\n" not in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    overrides = ["INPUT.FORMAT", "BGR", "MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]", NORM, "GN", "MODEL.WEIGHTS", "x.pkl"]
    with pytest.raises(UserError) as caught:
        load_config(C4, R50, overrides)
    first, *lines = str(caught.value).splitlines()
    assert first == "4 settings cannot be trained"
    assert [line.split()[2] for line in lines] == ["INPUT.FORMAT", "MODEL.PIXEL_STD", NORM, "MODEL.WEIGHTS"]


@pytest.mark.parametrize(
    ("key", "value", "besides", "departure"),
    [
        (FREEZE, "2", [], "FREEZE_AT is 2: the protocol trains every layer"),
        (NORM, "FrozenBN", [HEADS, "Res5ROIHeads"], "NORM is FrozenBN: the protocol trains every norm"),
        (HEADS, "Res5ROIHeads", [], "NAME is Res5ROIHeads: the protocol has a norm after res5"),
    ],
)
def test_only_the_command_line_departs_from_the_protocol(
    tmp_path: Path, key: str, value: str, besides: list[str], departure: str
) -> None:
    """In a file each of these is Detectron2's own habit, copied or defaulted; on the command line it is meant."""
    reading = read_config(C4, R50, [key, value, *besides])
    assert reading.problems == []
    assert any(departure in line for line in departures(reading.findings))
    own = written(tmp_path, C4, **{key.replace(".", "__"): value})
    with pytest.raises(UserError, match=rf"own\.yaml: {key} is .*write it on the command line"):
        load_config(own, R50, besides)


def test_detectron2s_defaults_are_refused(tmp_path: Path) -> None:
    """A config that leaves them alone gets frozen norms, frozen stages, and no norm after res5."""
    (tmp_path / "own.yaml").write_text(
        'MODEL:\n  META_ARCHITECTURE: "GeneralizedRCNN"\nDATASETS:\n  TEST: ("voc_2007_test",)'
    )
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / "own.yaml", R50)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split()[1] for line in lines] == [NORM, FREEZE, HEADS]
    assert "FREEZE_AT is 2, Detectron2's default, but the protocol trains every layer" in lines[1]


def test_from_scratch() -> None:
    """Random weights: nothing may be frozen, the preprocessing is that of every other start, GroupNorm is possible."""
    assert read_config(FPN, None, [NORM, "GN", FPN_NORM, "GN"]).problems == []
    [line] = read_config(C4, None, [FREEZE, "1"]).problems
    assert "FREEZE_AT is 1, which from scratch freezes random layers" in line
    lines = read_config(FPN, None, [NORM, "FrozenBN"]).problems
    assert "NORM is FrozenBN, which from scratch freezes norms" in lines[0]
    [line] = read_config(C4, None, ["INPUT.FORMAT", "BGR"]).problems
    assert "INPUT.FORMAT is BGR, but random weights get RGB" in line
    [line] = read_config(C4, None, [NORM, "SynBN"]).problems
    assert "NORM is SynBN, but it can be one of SyncBN" in line


def test_weights_for_the_other_head() -> None:
    [line] = read_config(FPN, R50, head="c4", source="automix.pth").problems
    assert "build_resnet_fpn_backbone, an FPN detector, but the weights were converted with --head c4; python" in line
    assert line.endswith("tools/convert_to_d2.py automix.pth OUT.pth --head fpn")
    assert read_config(FPN, R50, head="fpn").problems == []


def test_a_card_of_another_family_is_followed() -> None:
    """The check asks whether config and card agree, not whether they are torchvision's."""
    caffe = replace(R50, channel_order="BGR", std=(1 / 255,) * 3, mean=(0.4, 0.5, 0.6), stride_style="caffe")
    cfg = load_config(C4, caffe, ["INPUT.FORMAT", "BGR", "MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"])
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_STD, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("BGR", [1.0] * 3, True)
    with pytest.raises(UserError, match=r"INPUT\.FORMAT is RGB, .* with BGR"):
        load_config(C4, caffe, ["INPUT.FORMAT", "RGB"])


def test_check_prints_both_sides_and_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save(convert(randomised("resnet18"), "detectron2", head="c4"), tmp_path / "r18.pth")
    job = Job(config=CONFIGS / "d2" / "voc_r18_c4_24k.yaml", weights=weights, data_root=tmp_path, scale_to=2)
    check_only(replace(job, output=tmp_path / "run"))
    printed = capsys.readouterr().out
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:5]] for cells in map(_cells, printed.splitlines()) if cells
    }
    assert rows["INPUT.FORMAT"] == ["RGB", "RGB", "fits"]
    assert rows["MODEL.PIXEL_STD"] == ["[58.395, 57.12, 57.375]"] * 2 + ["fits"]
    assert rows["MODEL.RESNETS.DEPTH"] == ["18", "18", "fits"]
    assert rows[NORM] == ["BatchNorm", "SyncBN", "fits"]
    assert rows[HEADS] == ["Res5ROIHeadsExtraNorm", "Res5ROIHeadsExtraNorm", "fits"]
    assert rows["SOLVER.BASE_LR"][:2] == ["0.02", "0.0025"]
    assert not (tmp_path / "run").exists()

    with pytest.raises(UserError, match="2 settings cannot be trained"):
        check_only(replace(job, overrides=["INPUT.FORMAT", "BGR", "SOLVER.BASE_LR", "0.1"]))
    rows = {cells[1].strip(): cells[4].strip() for cells in map(_cells, capsys.readouterr().out.splitlines()) if cells}
    assert rows["INPUT.FORMAT"] == "WRONG"
    with pytest.raises(UserError, match="IMS_PER_BATCH is 2, which cannot be divided among 8 processes"):
        check_only(replace(job, num_gpus=4, num_machines=2, dist_url="tcp://here:1"))
    capsys.readouterr()
    check_only(replace(job, weights=None))
    assert "from scratch: no weights and no card" in capsys.readouterr().out


def _cells(line: str) -> list[str]:
    return [*line.split("│"), ""] if line.startswith("│") else []
