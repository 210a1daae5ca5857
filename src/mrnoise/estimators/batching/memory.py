"""How the C library hands out memory while batch after batch passes through a reconstruction."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# glibc, malloc.h: parameter numbers and default values.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
DEFAULTS = {MMAP_MAX: 65536, TRIM_THRESHOLD: 128 * 2**10, TOP_PAD: 0}
KEEP = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 * 2**20}
# How deep such blocks are nested: the outermost counts.
_depth = 0


@contextmanager
def freed_blocks_kept() -> Iterator[None]:
    """Within, freed blocks are used again; at the end they go back to the system.

    By default glibc maps every large tensor anew, and the system clears its pages: for a network on a CPU as much work
    as its arithmetic. Elsewhere than on Linux with glibc nothing changes.
    """
    global _depth
    chosen_by_user = any(name.startswith("MALLOC_") for name in os.environ)
    library = ctypes.CDLL(None) if sys.platform == "linux" and not chosen_by_user else None
    if library is None or not hasattr(library, "malloc_trim") or _depth:
        yield
        return
    for parameter, value in KEEP.items():
        library.mallopt(parameter, value)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        for parameter, value in DEFAULTS.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)
