"""What installed packages add, by entry points: looked up once a process, which takes as long as many a map."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType


@cache
def extensions(group: str) -> Mapping[str, EntryPoint]:
    """Name → entry point of a group, as of the first call.

    Examples
    --------
    >>> extensions("mrnoise.nothing")
    mappingproxy({})
    """
    return MappingProxyType({point.name: point for point in entry_points(group=group)})
