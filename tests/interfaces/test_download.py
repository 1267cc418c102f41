"""Files of others: fetched from a local server, refused, kept."""

import errno
import hashlib
import http.server
import shutil
import threading

import pytest

from jaxff.interfaces.download import Published, cache_folder, fetch

CONTENT = bytes(range(256)) * 1000
SIZE = len(CONTENT)
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        half = SIZE // 2
        self.wfile.write(
            {"/cut": CONTENT[:half], "/other": CONTENT[1:] + b"x"}.get(self.path, CONTENT)
        )

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def published(server, name):
    return Published(f"http://127.0.0.1:{server.server_port}/{name}", SUM)


def test_a_file_is_fetched_once_and_again_when_damaged(server, tmp_path):
    path, file = tmp_path / "folder" / "file.bin", published(server, "file")
    before = len(server.asked)
    assert fetch(file, path) == path
    assert path.read_bytes() == CONTENT
    assert fetch(file, path) == path
    assert len(server.asked) == before + 1
    path.write_bytes(CONTENT[:-1])
    fetch(file, path)
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("absent", ConnectionError, r"404.*put it at .*file\.bin"),
        ("cut", ConnectionError, "cannot be fetched"),
        ("other", ValueError, f"expected the SHA-256 {SUM}, got"),
    ],
)
def test_what_is_not_as_published_is_not_kept(server, tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        fetch(published(server, name), tmp_path / "file.bin")
    assert not list(tmp_path.iterdir())


def test_no_connection_and_no_address(server, tmp_path):
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(ConnectionError, match="fetch it where there is a connection and put it"):
        fetch(Published(f"http://127.0.0.1:{port}/file", SUM), tmp_path / "file.bin")
    with pytest.raises(ValueError, match="expected an address with https"):
        fetch(Published("file:///etc/hostname", SUM), tmp_path / "file.bin")


def test_a_full_disk_leaves_nothing(server, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "move", full)
    with pytest.raises(OSError, match="No space left on device; name another folder") as caught:
        fetch(published(server, "file"), tmp_path / "file.bin")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_the_folder_is_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAXFF_CACHE", raising=False)
    assert cache_folder() == tmp_path / "jaxff"
    monkeypatch.setenv("JAXFF_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
