"""Reading archives: nothing leads outside, and a damaged one is named."""

import gzip
import io
import stat
import tarfile
import zipfile

import pytest
from prepare_layouts import write_tar, write_zip
from torchvision.datasets.folder import IMG_EXTENSIONS

from pretrain.archives.reading import IMAGE_SUFFIXES, Source, is_image
from pretrain.console import UserError

FILES = {"top/a/1.jpg": b"one", "top/a/2.jpg": b"two" * 100, "top/b.txt": b""}


def packed(path):
    write = write_zip if path.suffix == ".zip" else write_tar
    write(path, FILES)
    return Source(path, ("top",))


def contents(source):
    return {member.name: (member.size, member.read()) for member in source.members()}


def test_images_are_what_torchvision_takes_for_one():
    assert IMAGE_SUFFIXES == IMG_EXTENSIONS
    assert is_image("a.JPEG")
    assert not is_image(".a.JPEG")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz"])
def test_an_archive_and_its_folder_read_alike(tmp_path, name):
    source = packed(tmp_path / name)
    assert contents(source) == {name: (len(content), content) for name, content in FILES.items()}
    with (zipfile.ZipFile if name == "x.zip" else tarfile.open)(tmp_path / name) as archive:
        archive.extractall(tmp_path / "all")
    assert contents(Source(tmp_path / "all")) == contents(source)
    for each in (source, Source(tmp_path / "all/top", ("top",))):
        found = [(name, member.read()) for name, member in each.pick({"a/1.jpg", "b.txt", "c"})]
        assert sorted(found) == [("a/1.jpg", b"one"), ("b.txt", b"")]
        assert each.read(["b.txt", "a/1.jpg"]) == {"a/1.jpg": b"one", "b.txt": b""}
        with pytest.raises(UserError, match=r"no c, d in it; is it the whole data set\?"):
            each.read(["c", "a/1.jpg", "d"])


def test_a_tar_does_not_pile_up_its_members(tmp_path, monkeypatch):
    archives = []
    original = tarfile.TarFile.next
    monkeypatch.setattr(tarfile.TarFile, "next", lambda self: archives.append(self) or original(self))
    write_tar(tmp_path / "x.tar", {f"{number}": b"" for number in range(50)})
    assert [len(archives[-1].members) for _ in Source(tmp_path / "x.tar").members()] == [0] * 50


def special(name, kind):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (tarfile.TarInfo("../evil"), "a path that leads outside"),
        (tarfile.TarInfo("a/../../evil"), "a path that leads outside"),
        (tarfile.TarInfo("/tmp/evil"), "a path that leads outside"),
        (tarfile.TarInfo("..\\evil"), "a path that leads outside"),
        (special("evil", tarfile.SYMTYPE), "a link or a device"),
        (special("evil", tarfile.LNKTYPE), "a link or a device"),
        (special("evil", tarfile.CHRTYPE), "a link or a device"),
        (special("evil", tarfile.FIFOTYPE), "a link or a device"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_tar_that_leads_outside_is_refused(tmp_path, entry, what, nested):
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as archive:
        archive.addfile(entry)
    path = tmp_path / "x.tar"
    path.write_bytes(evil.getvalue())
    if nested:
        write_tar(path, {"n01440764.tar": evil.getvalue()})
    with pytest.raises(UserError, match=rf"x\.tar: '.*evil' in it is {what}, which the real archive does not have"):
        list(Source(path).tars() if nested else Source(path).members())


@pytest.mark.parametrize(
    ("name", "mode", "what"),
    [
        ("/tmp/evil", 0, "a path that leads outside"),
        ("a/../../evil", 0, "a path that leads outside"),
        ("evil", stat.S_IFLNK | 0o777, "a link"),
    ],
)
def test_a_zip_that_leads_outside_is_refused(tmp_path, name, mode, what):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match=rf"'.*evil' in it is {what}, which"):
        list(Source(tmp_path / "x.zip").members())


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.8])
def test_a_truncated_archive_is_named(tmp_path, name, keep):
    path = tmp_path / name
    files = {str(number): bytes(range(256)) * 40 for number in range(20)}
    (write_zip if path.suffix == ".zip" else write_tar)(path, files)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match=rf"{name}: cut short or damaged \(.*\); download it again"):
        contents(Source(path))


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "x.zip"
    write_zip(path, {"a": b"good content"})
    path.write_bytes(path.read_bytes().replace(b"good content", b"evil content"))
    with pytest.raises(UserError, match=r"x\.zip: cut short or damaged \(Bad CRC-32"):
        contents(Source(path))
    path = tmp_path / "x.tar.gz"
    write_tar(path, {"a": b"good content"})
    spoilt = bytearray(path.read_bytes())
    spoilt[-8] ^= 1  # of the checksum
    path.write_bytes(spoilt)
    with pytest.raises(UserError, match=r"x\.tar\.gz: cut short or damaged \(CRC check failed"):
        contents(Source(path))
    path.write_bytes(gzip.compress(b"no tar at all" * 100))
    with pytest.raises(UserError, match=r"x\.tar\.gz: cut short or damaged"):
        contents(Source(path))
