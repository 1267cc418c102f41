"""What the C library does with memory that is freed between two calls of a compiled function."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_ARENA_MAX, _MMAP_THRESHOLD, _TOP_PAD, _TRIM_THRESHOLD = -8, -3, -2, -1  # malloc.h of glibc
_LARGE = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep freed blocks of up to 256 MiB, where the C library is that of GNU.

    XLA on a CPU asks for its work space anew at every call. By default glibc takes blocks above 32
    MiB, and most of those of threads, from the system and gives them back at once, so that each
    call meets its pages for the first time, which costs a good part of a training step or of the
    forces of a hundred atoms. Call it before anything is compiled.
    The environment variables ``MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=268435456
    MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_TOP_PAD_=67108864`` do the same.

    Returns:
        Whether it could be arranged; other systems go on as they are.

    Reference:
        Linux manual pages, mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    wanted = {
        _ARENA_MAX: 1,
        _MMAP_THRESHOLD: _LARGE,
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: _LARGE // 4,
    }
    done = [library.mallopt(name, value) == 1 for name, value in wanted.items()]
    return all(done)
