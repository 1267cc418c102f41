"""Work ahead in a thread: host arrays are made while the device computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["prefetched"]

T = TypeVar("T")

_POLL = 0.1  # s, after which a thread whose consumer has left notices


def prefetched(items: Iterable[T], depth: int) -> Iterator[T]:
    """The items, up to ``depth`` of them made ahead by a thread; 0 makes them when asked for.

    An error in the thread is raised where its item would have come. Leaving the loop early stops
    the thread.
    """
    if depth < 1:
        yield from items
        return
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    left = threading.Event()
    thread = threading.Thread(target=_work, args=(items, ready, left), daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        left.set()
        thread.join()


def _work(items: Iterable[Any], ready: queue.Queue, left: threading.Event) -> None:
    try:
        for item in items:
            if not _put(ready, left, ("item", item)):
                return
        _put(ready, left, ("end", None))
    except BaseException as error:  # noqa: BLE001 - it is raised in the consumer
        _put(ready, left, ("error", error))


def _put(ready: queue.Queue, left: threading.Event, entry: tuple[str, Any]) -> bool:
    """Wait for room; False once the consumer has left."""
    while not left.is_set():
        try:
            ready.put(entry, timeout=_POLL)
        except queue.Full:
            continue
        return True
    return False
