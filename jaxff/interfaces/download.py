"""Files that others publish, fetched once and only with the content that is known here."""

import hashlib
import http.client
import os
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from jaxff.data.archive import write_atomic

__all__ = ["Published", "cache_folder", "fetch"]

_BLOCK = 1 << 16


class Published(NamedTuple):
    """A file on a server, and what it must hold."""

    url: str
    sha256: str
    size: int


def cache_folder() -> Path:
    """Where fetched files are kept.

    ``JAXFF_CACHE`` if it is set, else ``jaxff`` in ``XDG_CACHE_HOME`` or in ``~/.cache``.
    """
    if own := os.environ.get("JAXFF_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxff"


def fetch(file: Published, path: str | os.PathLike, *, timeout: float = 30.0) -> Path:
    """Fetch a file, unless it is there with the right content already.

    It takes its name when it is complete and its SHA-256 is right: no part of it is ever left, and
    a damaged copy is replaced.

    Args:
        file: What to fetch, by ``https`` or ``http``.
        path: Where it is to lie; folders are made.
        timeout: Seconds without an answer after which to give up.

    Raises:
        ConnectionError: If it cannot be had from the server.
        ValueError: If it is not what is known here, or for another kind of address.
        OSError: If it cannot be written.
    """
    path = Path(path)
    if urlsplit(file.url).scheme not in ("http", "https"):
        raise ValueError(f"{file.url}: expected an address with https://")
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urlopen(file.url, timeout=timeout) as answer:
            write_atomic(path, lambda stream: _copy(answer, stream, file))
    except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = f"HTTP {error.code}" if isinstance(error, HTTPError) else f"{error}"
        raise ConnectionError(
            f"{file.url} cannot be fetched ({reason}); fetch it where there is a connection and "
            f"put it at {path}"
        ) from error
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; name another folder", str(path)) from error
    return path


def _copy(answer: IO[bytes], stream: IO[bytes], file: Published) -> None:
    """Bytes of the answer, no more than are expected, into the stream."""
    found, count = hashlib.sha256(), 0
    while count <= file.size and (block := answer.read(_BLOCK)):
        found.update(block)
        stream.write(block)
        count += len(block)
    if found.hexdigest() != file.sha256:
        raise ValueError(
            f"{file.url}: expected {file.size} bytes with SHA-256 {file.sha256}, got "
            f"{'more' if count > file.size else count} with {found.hexdigest()}: it was changed or "
            "cut off, and is not kept"
        )
