"""The command lines, each as it is typed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from prepare_layouts import LAYOUTS, REAL

from pretrain.console import UserError
from pretrain.data.card import read_data_card

ROOT = Path(__file__).parents[4]
TOOLS = {
    "cifar10": ("prepare_cifar", "cifar", "CIFAR10"),
    "cifar100": ("prepare_cifar", "cifar", "CIFAR100"),
    "tiny": ("prepare_tiny", "tiny", "TINY"),
    "imagenet": ("prepare_imagenet", "imagenet", "IMAGENET"),
    "cub200": ("prepare_cub", "cub", "CUB"),
    "aircraft": ("prepare_aircraft", "aircraft", "AIRCRAFT"),
    "inat2017": ("prepare_inat", "inat", "INAT2017"),
    "inat2018": ("prepare_inat", "inat", "INAT2018"),
    "places205": ("prepare_places", "places", "PLACES"),
}


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Run a tool in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [f"tools/{name}.py", *map(str, arguments)])
        spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main()

    return run


def arguments_of(key):
    """Return the tool of a data set and the argument that chooses it, from the command it is described with."""
    _, script, *chosen = REAL[key].command.split()
    return Path(script).stem, chosen


def test_each_data_set_has_its_tool():
    assert {key: arguments_of(key)[0] for key in LAYOUTS} == {key: tool for key, (tool, _, _) in TOOLS.items()}


@pytest.mark.parametrize("key", LAYOUTS)
def test_a_data_set_is_arranged_where_its_config_looks(make, tool, seen, monkeypatch, capsys, tmp_path, key):
    built = make(key)
    _, module, name = TOOLS[key]
    monkeypatch.setattr(f"pretrain.data.prepare.{module}.{name}", built.data_set)
    script, chosen = arguments_of(key)
    tool(script, *chosen, "--archives", built.folder)
    assert seen(tmp_path / "data" / key) == built.truth
    first = capsys.readouterr().out
    assert first.startswith(f"{built.data_set.name} arranged: data/{key}\n  3 classes, 12 training and 6 validation")
    assert f"  train next: tools/pretrain.sh {built.data_set.config}" in first
    tool(script, *chosen)  # and needs nothing any more
    assert capsys.readouterr().out == first.replace("arranged", "complete already")


def test_a_fraction_and_another_folder(make, tool, monkeypatch, capsys, tmp_path):
    built = make("cub200")
    monkeypatch.setattr("pretrain.data.prepare.cub.CUB", built.data_set)
    tool("prepare_cub", "--archives", built.folder, "--fraction", 0.5, "--seed", 7, "--out", "small")
    card = read_data_card(tmp_path / "small")
    assert (card.fraction, card.seed, card.images) == (0.5, 7, {"train": 6, "val": 3})
    assert capsys.readouterr().out == (
        "CUB-200-2011 arranged: small (fraction 0.5 of each class, seed 7)\n"
        "  3 classes, 6 training and 3 validation images\n"
        "  train next: tools/pretrain.sh configs/pretrain/cub200/r18_200ep.py --cfg-options data.root=small\n"
        "  localisation: small/metadata\n"
        "    train 6 images, not the published 5,994\n"
        "    test 3 images, not the published 5,794\n"
        "    no val: that is CUBV2, see --cubv2\n"
    )


def test_each_data_set_has_a_config_of_its_own(make, tool, monkeypatch, capsys):
    built = make("aircraft")
    monkeypatch.setattr("pretrain.data.prepare.aircraft.AIRCRAFT", built.data_set)
    tool("prepare_aircraft", "--archives", built.folder)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.endswith("configs/pretrain/aircraft/r18_200ep.py")


@pytest.mark.parametrize("key", LAYOUTS)
def test_missing_archives_are_listed_with_all_one_needs(tool, key):
    script, chosen = arguments_of(key)
    with pytest.raises(UserError) as raised:
        tool(script, *chosen, "--archives", "downloads", "--extracted", "unpacked")
    text = str(raised.value)
    assert text.startswith(f"{REAL[key].name} is made from files that are not in downloads, nor unpacked in unpacked:")
    for archive in REAL[key].archives:
        assert f"  {archive.name}  " in text
        assert archive.url in text
        assert (archive.checksum or "no published checksum known") in text
        assert (archive.login or "no login") in text
    assert f"then:  {REAL[key].command} --archives downloads" in text
    assert ("--download" in text) == (key not in ("imagenet", "places205"))


def test_sizes_are_those_of_the_publishers(tool):
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar  148 GB, md5:1d675b47d978889d74fa0da5fadfb00e\n"):
        tool("prepare_imagenet")
    with pytest.raises(UserError, match=r"train_val2017\.zip  26\.8 MB, md5:444c835f6459867ad69fcb36478786e7\n"):
        tool("prepare_inat", "inat2017")


def test_what_is_missing_is_downloaded(make, tool, monkeypatch, seen, tmp_path):
    built = make("inat2018")
    monkeypatch.setattr("pretrain.data.prepare.inat.INAT2018", built.data_set)
    asked = []

    def download(archive, folder):
        asked.append(archive.name)
        (folder / archive.name).write_bytes(kept)

    monkeypatch.setattr("pretrain.data.prepare.command.download", download)
    path = built.folder / "val2018.json.tar.gz"
    kept = path.read_bytes()
    path.unlink()
    tool("prepare_inat", "inat2018", "--archives", built.folder, "--download")
    assert asked == ["val2018.json.tar.gz"]
    assert seen(tmp_path / "data/inat2018") == built.truth


def test_imagenet_offers_no_download(tool, capsys):
    with pytest.raises(SystemExit):
        tool("prepare_imagenet", "--download")
    assert "unrecognized arguments: --download" in capsys.readouterr().err


@pytest.mark.parametrize("fraction", ["0", "1.5", "-1", "nan"])
def test_an_impossible_fraction_is_refused(tool, fraction):
    with pytest.raises(UserError, match="--fraction is "):
        tool("prepare_cub", f"--fraction={fraction}")


def test_a_tree_of_ones_own(make, tool, arranged, capsys, tmp_path):
    built = make("cub200")
    arranged(built, tmp_path / "mine")
    (tmp_path / "mine/dataset.json").unlink()
    tool("prepare_folder", "--extracted", "mine")
    assert capsys.readouterr().out == (
        "mine whole: mine\n"
        "  3 classes, 12 training and 6 validation images\n"
        "  train next: tools/pretrain.sh configs/pretrain/imagenet/r18_100ep.py --cfg-options data.root=mine "
        "name=mine/r18_100ep\n"
    )
    tool("prepare_folder", "--extracted", "mine", "--out", "half", "--fraction", "0.5", "--name", "Half")
    assert read_data_card(tmp_path / "half").images == {"train": 6, "val": 3}
    assert capsys.readouterr().out.startswith("Half arranged: half (fraction 0.5 of each class, seed 0)\n")


@pytest.mark.parametrize("name", sorted({tool for tool, _, _ in TOOLS.values()} | {"prepare_folder"}))
def test_help_shows_examples(tool, capsys, name):
    with pytest.raises(SystemExit):
        tool(name, "--help")
    assert f"python tools/{name}.py" in capsys.readouterr().out


def test_a_mistake_is_one_line_and_torch_is_not_waited_for():
    script = ROOT / "tools/prepare_imagenet.py"
    code = "import atexit, runpy, sys; sys.argv = ['prepare_imagenet.py', '--fraction=2']\n"
    code += "atexit.register(lambda: print('torch' in sys.modules))\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr == "error: --fraction is 2.0, and a share above 0 and up to 1 is due, such as 0.1\n"
    assert done.stdout == "False\n"
