"""tools/doctor.py: its verdict, and what it says of data sets and of what is missing."""

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pretrain.console import UserError
from pretrain.data.card import DataCard, write_data_card

SCRIPT = Path(__file__).parents[2] / "tools/doctor.py"


@pytest.fixture
def doctor(monkeypatch):
    spec = importlib.util.spec_from_file_location("doctor", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "doctor", module)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def by_topic(findings):
    return {finding.topic: finding for finding in findings}


def test_this_environment_can_run_the_main_job(doctor, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["doctor.py"])
    assert doctor.main() == 0
    printed = capsys.readouterr().out
    assert "make quickstart can run here" in printed
    assert "Detectron2 0.6" in printed
    assert "mmcv 2." in printed


def test_a_missing_package_is_fatal_and_named_with_its_remedy(doctor, monkeypatch, capsys):
    def version(name):
        if name == "resvg-py":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr("sys.argv", ["doctor.py"])
    assert doctor.main() == 1
    assert "make quickstart cannot run: resvg-py: not installed; make setup" in capsys.readouterr().out


def test_a_package_that_does_not_import_is_fatal(doctor, monkeypatch):
    monkeypatch.setattr(doctor, "IMPORTS", ("a_module_that_is_not_there",))
    finding = by_topic(doctor.check_python())["import a_module_that_is_not_there"]
    assert finding.fatal
    assert "No module named" in finding.found


def test_a_damaged_cache_of_yapf_is_named_with_what_mends_it(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import mmengine"], env=environment, check=True)
    written = list(tmp_path.rglob("PatternGrammar*.pickle"))
    assert len(written) == 1
    written[0].write_bytes(b"")
    found = subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True)
    assert found.returncode == 1
    line = "make quickstart cannot run: import mmengine: EOFError: Ran out of input; rm -r ~/.cache/YAPF"
    assert line in found.stdout


def test_a_python_too_old_or_too_new_is_fatal(doctor, monkeypatch):
    monkeypatch.setattr(doctor, "IMPORTS", ())
    for version, fatal in (((3, 9, 1), True), ((3, 10, 0), False), ((3, 13, 9), False), ((3, 14, 0), True)):
        monkeypatch.setattr(doctor.sys, "version_info", version)
        assert by_topic(doctor.check_python())["python"].fatal is fatal


def test_a_missing_detector_is_fatal(doctor, monkeypatch):
    def missing():
        raise UserError("Detectron2 is not installed; run `python tools/install_detectron2`")

    monkeypatch.setattr("transfer.compat.prepare_detectron2", missing)
    finding = by_topic(doctor.check_detectors())["Detectron2"]
    assert finding.fatal
    assert "tools/install_detectron2" in finding.found


def test_data_sets_are_told_by_their_layout(doctor, tmp_path):
    voc = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main"
    voc.mkdir(parents=True)
    (voc / "trainval.txt").touch()
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/dataset.json").write_text("{")
    images = {"train": 500, "val": 100}
    write_data_card(tmp_path / "cifar100", DataCard("CIFAR-100", ["apple"], images, fraction=0.01))
    findings = by_topic(doctor.check_data(tmp_path, tmp_path / "demo"))
    assert findings["CIFAR-100"].found == f"in {tmp_path / 'cifar100'}: 500 and 100 images, a fraction of 0.01"
    assert not findings["CIFAR-100"].remedy
    assert findings["CIFAR-10"].remedy == f"python tools/prepare_folder.py --extracted {tmp_path / 'cifar10'}"
    assert "not valid JSON" in findings["Tiny-ImageNet"].found
    assert findings["ImageNet-1k"].remedy == "python tools/prepare_imagenet.py"
    assert findings["VOC 2007"].found.startswith("incomplete: VOCdevkit/VOC2007/ImageSets/Main/test.txt missing")
    assert findings["COCO 2017"].remedy.endswith("coco/annotations/instances_train2017.json")
    assert findings["demo pictures"].found == "not made yet"
    assert not any(finding.fatal for finding in findings.values()), "real data are not needed for the main job"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/complete.json").touch()
    assert not by_topic(doctor.check_data(tmp_path, tmp_path / "demo"))["demo pictures"].remedy


def test_a_full_disk_is_fatal(doctor, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage._replace(free=10**6))
    (finding,) = doctor.check_disk(tmp_path)
    assert finding.fatal
    assert "make room" in finding.remedy
