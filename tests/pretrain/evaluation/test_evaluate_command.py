"""The evaluation of runs that were trained a moment ago: its figures are those of the training, and of each metric."""

import json
import shutil
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from pretrain.backbones import load_backbone
from pretrain.console import UserError
from pretrain.data.datasets import SeededImageFolder
from pretrain.data.transforms import Normalise, TransformSettings, eval_transform
from pretrain.evaluation import evaluate as module
from pretrain.evaluation.calibration import Calibration
from pretrain.evaluation.evaluate import METRICS, evaluate
from pretrain.evaluation.report import markdown, print_result, rows_of
from pretrain.files import read_json, sha256, write_json
from pretrain.training.logbook import read_log

ALL_IMAGES = 42
TOOL = Path(__file__).parents[3] / "tools/evaluate.py"


@pytest.fixture(scope="module")
def evaluated(automix_run):
    """Everything that is possible for the run, pictures too."""
    return evaluate(automix_run, device="cpu")


def last(run):
    return [entry for entry in read_log(run) if "epoch" in entry][-1]


def whole_set(folder):
    images = SeededImageFolder(folder / "val", eval_transform(TransformSettings(size=32)))
    samples = [images[0, number] for number in range(len(images))]
    return torch.stack([image for image, _ in samples]), torch.tensor([label for _, label in samples])


def test_accuracy_is_what_the_training_logged_to_the_last_digit(automix_run, evaluated):
    logged = last(automix_run)
    assert 20 < logged["teacher_top1"] < 90
    assert evaluated["top1"] == logged["teacher_top1"]
    assert evaluated["top5"] == logged["teacher_top5"]
    student = evaluate(automix_run / "export" / "student.safetensors", ["accuracy"], device="cpu", batch_size=5)
    assert (student["top1"], student["top5"]) == (logged["student_top1"], logged["student_top5"])
    assert (student["branch"], evaluated["branch"]) == ("student", "teacher")


def test_calibration_and_attack_are_those_of_all_images(automix_run, noisy_folder, evaluated):
    model, _ = load_backbone(automix_run / "export" / "teacher")
    pixels, labels = whole_set(noisy_folder)
    normalise = Normalise()
    with torch.no_grad():
        logits = model(normalise(pixels))
    ece = multiclass_calibration_error(logits.softmax(1), labels, num_classes=6, n_bins=15, norm="l1")
    assert evaluated["ece"] == pytest.approx(100 * float(ece), abs=1e-3)
    assert sum(evaluated["calibration"]["counts"]) == evaluated["images"] == ALL_IMAGES
    moving = pixels.float().requires_grad_()
    F.cross_entropy(model(normalise(moving)), labels).backward()
    attacked = (pixels + 8 * moving.grad.sign()).clamp(0, 255)
    wrong = (model(normalise(attacked)).argmax(1) != labels).float().mean()
    assert evaluated["fgsm_error"] == pytest.approx(100 * float(wrong))
    assert evaluated["fgsm_epsilon"] == 8 / 255
    assert evaluated["fgsm_error"] > 100 - evaluated["top1"]


def test_mixed_accuracy_is_of_three_methods_and_the_own_one_stands_on_top(evaluated):
    assert list(evaluated["mixed"]) == ["mixup", "cutmix", "automix"]
    for each in evaluated["mixed"].values():
        for figures in (each, each["lambda_0.5"]):
            assert 0 < figures["pairs"] <= ALL_IMAGES
            assert 0 <= figures["mixed_acc2"] <= figures["mixed_acc1"] <= 100
    assert evaluated["mixed_acc1"] == evaluated["mixed"]["automix"]["mixed_acc1"]
    assert evaluated["mixed_acc2"] == evaluated["mixed"]["automix"]["mixed_acc2"]


def test_files(automix_run, evaluated):
    out = automix_run / "evaluation"
    assert json.loads((out / "evaluation.json").read_text()) == evaluated
    assert (out / "evaluation.md").read_text() == markdown(evaluated)
    assert set(evaluated["pictures"]) == {"calibration", "mixed_cams", "masks_over_lambda", "masks_over_training"}
    for file in evaluated["pictures"].values():
        assert (out / file).read_bytes().startswith(b"\x89PNG")
    assert not list(out.glob(".*"))
    assert set(evaluated["left_out"]) == {"corruption"}
    assert "3555552" in evaluated["left_out"]["corruption"]


def test_a_calibration_can_be_drawn_from_the_file(evaluated):
    bins = {key: tuple(value) for key, value in evaluated["calibration"].items()}
    again = Calibration(ece=evaluated["ece"], **bins)
    gaps = [abs(a - c) * n for a, c, n in zip(again.accuracy, again.confidence, again.counts, strict=True) if n]
    assert 100 * sum(gaps) / ALL_IMAGES == pytest.approx(again.ece, abs=1e-4)


def test_the_table_has_every_figure(evaluated, capsys):
    names = [name for name, _ in rows_of(evaluated)]
    assert names[:4] == ["top-1 accuracy", "top-5 accuracy", "expected calibration error", "error under FGSM, 8/255"]
    assert len(names) == 4 + 3 * 2 * 2
    print_result(evaluated)
    shown = capsys.readouterr().out
    for value in (evaluated["top1"], evaluated["ece"], evaluated["fgsm_error"], evaluated["mixed_acc2"]):
        assert f"{value:.2f} %" in shown
    assert "left out: corruption" in shown


def test_vanilla_has_yardsticks_only_and_no_masks(vanilla_run):
    found = evaluate(vanilla_run, device="cpu")
    assert list(found["mixed"]) == ["mixup", "cutmix"]
    assert "mixed_acc1" not in found
    assert set(found["left_out"]) == {"corruption", "masks", "mixed by vanilla"}
    assert found["left_out"]["masks"] == "only AutoMix has a Mix Block, and this is vanilla"
    assert found["top1"] == last(vanilla_run)["model_top1"]


@pytest.mark.parametrize("name", ["corruption", "masks"])
def test_a_metric_that_was_named_has_to_be_possible(vanilla_run, tmp_path, name):
    with pytest.raises(UserError, match=f"metric '{name}' is not possible"):
        evaluate(vanilla_run, ["all", name], out=tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_figures_do_not_hang_on_what_else_is_asked_for(automix_run, evaluated, tmp_path):
    alone = evaluate(automix_run, ["mixed"], out=tmp_path, device="cpu")
    assert alone["mixed"] == evaluated["mixed"]
    assert not {"top1", "ece", "fgsm_error"} & set(alone)
    assert alone["left_out"] == alone["pictures"] == {}


def test_the_metrics_share_one_pass(automix_run, tmp_path, monkeypatch):
    read = []
    original = SeededImageFolder.__getitem__
    monkeypatch.setattr(SeededImageFolder, "__getitem__", lambda own, at: read.append(at) or original(own, at))
    evaluate(automix_run, ["accuracy", "ece", "fgsm", "mixed"], out=tmp_path, device="cpu")
    assert sorted(read) == [(0, number) for number in range(ALL_IMAGES)]
    assert read != sorted(read)  # shuffled: a batch of one class would have no pair


def test_corruptions_are_read_beside_no_other_images(vanilla_run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_corruptions", lambda folder, classes: (folder, classes))
    monkeypatch.setattr(module, "corruption_accuracy", lambda *given: given)
    monkeypatch.setattr(module, "write_json", lambda path, value: None)
    monkeypatch.setattr(module, "markdown", str)
    given = evaluate(vanilla_run, ["corruption"], tmp_path, cifar_c=tmp_path, device="cpu")["corruption"]
    _, opened, prepare, batch_size, device = given
    assert (opened, batch_size, device) == ((tmp_path, 6), 256, torch.device("cpu"))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = Normalise()(eval_transform(TransformSettings(size=32)).transforms[1](images)[..., 2:34, 2:34])
    assert torch.equal(prepare(images), expected)  # as validation images: resized to 37, cropped to 32


def test_a_moved_export_without_its_run(automix_run, tmp_path):
    shutil.copytree(automix_run / "export", tmp_path / "moved")
    found = evaluate(tmp_path / "moved" / "student", ["masks", "mixed"], device="cpu")
    assert "automix" in found["mixed"]
    assert list(found["pictures"]) == ["masks_over_lambda"]
    assert "does not lie in the folder of its run" in found["left_out"]["masks over training"]
    assert (tmp_path / "moved" / "evaluation" / "student" / "evaluation.json").is_file()
    (tmp_path / "moved" / "mix_block.safetensors").unlink()
    found = evaluate(tmp_path / "moved" / "student", ["all"], device="cpu")
    assert "mix_block.safetensors: there is no Mix Block" in found["left_out"]["mixed by automix"]
    assert "there is no Mix Block" in found["left_out"]["masks"]
    with pytest.raises(UserError, match="metric 'masks' is not possible: .*there is no Mix Block"):
        evaluate(tmp_path / "moved" / "student", ["masks"], device="cpu")


def test_wrong_input_is_told_in_one_line(automix_run, noisy_folder, tmp_path):
    cases = {
        "--metrics acuracy: no such metric; did you mean 'accuracy'": {"metrics": ["acuracy"]},
        "--metrics accuracy,ece: no such metric; put spaces between names": {"metrics": ["accuracy,ece"]},
        "--batch-size 0: a batch has at least one image": {"batch_size": 0},
        "no result.json, so no finished run; name a run's folder or its export/NAME": {"checkpoint": tmp_path},
        "name one of those in it: .*/work$": {"checkpoint": automix_run.parent},
        "name one of those in it: .*/student.safetensors, .*/teacher.safetensors$": {
            "checkpoint": automix_run / "export"
        },
        "nothing: neither the folder of a run nor an exported backbone": {"checkpoint": tmp_path / "nothing"},
        rf"--data {tmp_path}: no folder val/<class>/ there": {"data": tmp_path},
        "--device gpu: cannot be used here": {"device": "gpu"},
    }
    for message, changed in cases.items():
        with pytest.raises(UserError, match=message) as error:
            evaluate(**{"checkpoint": automix_run, "out": tmp_path / "out", "device": "cpu", **changed})
        assert "\n" not in str(error.value)
    fewer = tmp_path / "fewer"
    shutil.copytree(noisy_folder, fewer)
    shutil.rmtree(fewer / "val" / "class3")
    with pytest.raises(
        UserError, match=r"teacher\.safetensors: .* 6 classes .* 5; .*the data set is .*/fewer, and --data"
    ):
        evaluate(automix_run, ["accuracy"], out=tmp_path / "out", data=fewer, device="cpu")


def test_a_damaged_run_is_told_in_one_line_and_nothing_is_written(vanilla_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(vanilla_run, run)
    for text in ('{"name": "x"}', "[1]"):
        (run / "result.json").write_text(text)
        with pytest.raises(UserError, match=r"result\.json: not the result of a run \(it needs branch\)"):
            evaluate(run, ["accuracy"], out=tmp_path / "out", device="cpu")
    weights = run / "export/model.safetensors"
    card = read_json(weights.with_suffix(".json"))
    card["training"]["data"]["transform"]["sice"] = 32
    write_json(weights.with_suffix(".json"), card)
    with pytest.raises(UserError, match=r"model\.json: training\.data\.transform\.sice: .*; export the backbone again"):
        evaluate(weights, ["accuracy"], out=tmp_path / "out", device="cpu")
    del card["training"]["data"]["transform"]["sice"]
    tensors = load_file(weights)
    tensors["conv1.0.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, weights)
    write_json(weights.with_suffix(".json"), {**card, "sha256": sha256(weights)})
    with pytest.raises(UserError, match=r"model\.safetensors: conv1\.0\.weight hold values that are not finite"):
        evaluate(weights, ["accuracy"], out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_pictures_of_an_earlier_evaluation_do_not_stay_beside_a_later_one(automix_run, vanilla_run, tmp_path):
    evaluate(automix_run, ["masks", "ece"], out=tmp_path, device="cpu")
    (tmp_path / "mine.png").touch()
    evaluate(vanilla_run, ["ece"], out=tmp_path, device="cpu")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["calibration.png", "mine.png"]


def test_the_command(vanilla_run, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_path(str(TOOL), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    assert all(f"{name} (" in run("--help")[1] for name in METRICS)
    status, shown, _ = run(vanilla_run, "--metrics", "accuracy", "ece", "--out", tmp_path, "--device", "cpu")
    assert (status, "top-1 accuracy" in shown) == (0, True)
    assert json.loads((tmp_path / "evaluation.json").read_text())["top1"] == last(vanilla_run)["model_top1"]
    status, _, said = run(vanilla_run, "--metrics", "corruption", "--out", tmp_path, "--device", "cpu")
    assert status == 2
    assert said.startswith("error: metric 'corruption' is not possible: needs --cifar-c")
    assert said.count("\n") == 1
