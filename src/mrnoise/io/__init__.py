"""Reading acquisitions, writing and reading noise maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrnoise.io.hdf5 import read_noise_map
from mrnoise.io.save import save

if TYPE_CHECKING:
    from mrnoise.io.scan_file import read

__all__ = ["read", "read_noise_map", "save"]


def __getattr__(name: str) -> Any:
    if name == "read":
        from mrnoise.io.scan_file import read

        return read
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
