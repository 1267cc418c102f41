"""Files that others publish, fetched once and only with the content that is known here."""

import os
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Published", "cache_folder", "fetch"]


class Published(NamedTuple):
    """A file on a server, and what it must hold."""

    url: str
    sha256: str


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
    import pooch
    from requests import RequestException

    path = Path(path)
    if not file.url.startswith(("https://", "http://")):
        raise ValueError(f"{file.url}: expected an address with https://")
    downloader: Any = pooch.HTTPDownloader(timeout=timeout)  # its annotations do not fit together
    known = f"sha256:{file.sha256}"
    try:
        pooch.retrieve(file.url, known, fname=path.name, path=path.parent, downloader=downloader)
    except RequestException as error:
        raise ConnectionError(
            f"{file.url} cannot be fetched ({error}); fetch it where there is a connection and put "
            f"it at {path}"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{file.url}: expected the SHA-256 {file.sha256}, got something else: it was changed, "
            "and is not kept"
        ) from error
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; name another folder", str(path)) from error
    return path
