"""Downloading, from a server on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pretrain.archives.download import download
from pretrain.archives.sources import Archive
from pretrain.console import UserError

CONTENT = bytes(range(256)) * 12_000  # 3 MB


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT; the class attributes say how well."""

    ranges = True  # whether it can go on from a place
    breaks_off_after = None  # bytes
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        wanted = self.headers["Range"]
        self.asked.append(wanted)
        if self.path != "/x.tgz":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.breaks_off_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(Server, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        md5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
        yield Archive("images", "x.tgz", len(CONTENT), f"http://127.0.0.1:{server.server_port}/x.tgz", md5)
        server.shutdown()
        thread.join()


def test_a_file_arrives_whole(served, tmp_path):
    path = download(served, tmp_path / "archives")
    assert path == tmp_path / "archives/x.tgz"
    assert path.read_bytes() == CONTENT
    assert Server.asked == [None]
    assert [entry.name for entry in path.parent.iterdir()] == ["x.tgz"]


def test_a_download_that_broke_off_goes_on(served, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "breaks_off_after", 2_000_000)
    with pytest.raises(UserError, match=r"x\.tgz: the download stopped at 2 MiB .*run the same command again to go on"):
        download(served, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.tgz.part"]
    monkeypatch.setattr(Server, "breaks_off_after", None)
    assert download(served, tmp_path).read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=2000000-"]


def test_a_server_that_cannot_go_on_starts_again(served, tmp_path, monkeypatch):
    monkeypatch.setattr(Server, "ranges", False)
    (tmp_path / "x.tgz.part").write_bytes(CONTENT[:1000])
    assert download(served, tmp_path).read_bytes() == CONTENT
    assert Server.asked == ["bytes=1000-"]


def test_a_download_that_was_whole_is_only_checked(served, tmp_path):
    (tmp_path / "x.tgz.part").write_bytes(CONTENT)
    assert download(served, tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(served, tmp_path):
    (tmp_path / "x.tgz.part").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"its checksum is md5:.*, and md5:.* is that of x\.tgz"):
        download(served, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_have_it_is_named(served, tmp_path):
    gone = Archive("images", "x.tgz", 10, served.url.replace("x.tgz", "y.tgz"), served.checksum)
    with pytest.raises(UserError, match=r"y\.tgz: the download stopped at 0 MiB \(HTTP Error 404"):
        download(gone, tmp_path)
    nobody = Archive("images", "x.tgz", 10, "http://127.0.0.1:1/x.tgz", served.checksum)
    with pytest.raises(UserError, match="the download stopped at 0 MiB .*refused"):
        download(nobody, tmp_path)


def test_what_needs_a_login_is_not_asked_for(served, tmp_path):
    locked = Archive("images", "x.tgz", 10, served.url, served.checksum, login="needs an account")
    with pytest.raises(UserError, match=r"x\.tgz: needs an account; then download it from"):
        download(locked, tmp_path)
    assert Server.asked == []


def test_a_disk_without_room_is_refused_beforehand(served, tmp_path):
    huge = Archive("images", "x.tgz", 10**18, served.url, served.checksum)
    with pytest.raises(UserError, match=r"the download of x\.tgz needs"):
        download(huge, tmp_path)
    assert Server.asked == []
