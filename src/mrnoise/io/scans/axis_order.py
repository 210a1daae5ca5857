"""Which axis of k-space is which: named, told by what stands beside it, or asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mrnoise.acquisition.acquisition import DEFAULT_AXES
from mrnoise.errors import InputError

SPATIAL = ("kz", "ky", "kx")
NAMES = (*DEFAULT_AXES, "average", "coil", *SPATIAL)
# No receiver has more.
MOST_COILS = 128


@dataclass(frozen=True)
class Evidence:
    """What stands beside k-space and tells its axes apart; each number by what says it.

    Parameters
    ----------
    coils
        Number of coils: of a noise scan, of the header.
    slices
        Number of slices.
    spatial
        Sizes that are among those of the spatial axes.
    whole
        Sizes of the coil and all spatial axes together, the coil first or all in the order of the file.
    flat
        Whether images are known to be slices: an axis beside coil, ky and kx is no kz.
    """

    coils: Mapping[str, int] = field(default_factory=dict)
    slices: Mapping[str, int] = field(default_factory=dict)
    spatial: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    whole: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    flat: bool = False

    def allows(self, shape: Sequence[int], order: Sequence[str]) -> bool:
        """Whether axes of these sizes can have these names."""
        sizes = dict(zip(order, shape, strict=True))
        n_coils = sizes.get("coil", 1)
        spatial = [sizes[name] for name in order if name in SPATIAL]
        in_file = tuple(sizes[name] for name in order if name in ("coil", *SPATIAL))
        return (
            all(n == n_coils for n in self.coils.values())
            and all(n == sizes.get("slice", n) for n in self.slices.values())
            and all(_among(some, spatial) for some in self.spatial.values())
            and all(some in ((n_coils, *spatial), in_file) for some in self.whole.values())
        )

    def __str__(self) -> str:
        said = [f"{n} coils by {name}" for name, n in self.coils.items()]
        said += [f"{n} slices by {name}" for name, n in self.slices.items()]
        sizes = (*self.spatial.items(), *self.whole.items())
        return ", ".join([*said, *(f"{' × '.join(map(str, some))} by {name}" for name, some in sizes)])


def parsed_axes(axes: str | Sequence[str]) -> tuple[str, ...]:
    """Names of axes from ``"coil,ky,kx"`` or a sequence.

    Raises
    ------
    InputError
        If a name is unknown or repeated, or ky or kx is missing.

    Examples
    --------
    >>> parsed_axes("slice,ky,kx,coil")
    ('slice', 'ky', 'kx', 'coil')
    """
    given = axes.split(",") if isinstance(axes, str) else axes
    names = tuple(str(name).strip() for name in given)
    if not set(names) <= set(NAMES) or len(set(names)) < len(names) or not {"ky", "kx"} <= set(names):
        raise InputError(
            "cannot read the names of the axes",
            expected=f"ky, kx and others of {', '.join(NAMES)}, each once",
            received=",".join(names),
            remedy="For example --axes coil,ky,kx, in Python axes='coil,ky,kx'.",
        )
    return names


def axis_order(
    shape: Sequence[int],
    name: str,
    evidence: Evidence,
    documented: tuple[tuple[str, ...], ...],
    kind: str,
    fastest_first: bool = False,
) -> tuple[tuple[str, ...], str | None]:
    """Names of the axes of k-space in a file that does not name them.

    An order that the format is known for holds where nothing speaks against it. Else what stands beside k-space has
    to leave one order.

    Parameters
    ----------
    shape
        Of k-space.
    name
        Of the file.
    evidence
        What stands beside k-space.
    documented
        Orders that the format is known for, one for each number of axes.
    kind
        What the format is called.
    fastest_first
        Whether files of the format begin with the axis that others have last; for the advice of the error.

    Returns
    -------
    names
        One for each axis.
    note
        What has to be said of it, ``None`` where it is certain.

    Raises
    ------
    InputError
        If more than one order is possible, or none.

    Examples
    --------
    >>> axis_order((64, 48, 6), "a.npy", Evidence(coils={"the noise scan": 6}), (), "npy")
    (('ky', 'kx', 'coil'), 'axes recognized as ky, kx, coil: 6 coils by the noise scan')
    """
    orders = [order for order in _orders(len(shape)) if evidence.allows(shape, order)]
    usual = next((order for order in documented if len(order) == len(shape)), None)
    if usual is not None and not orders:  # what contradicts it is said where it is used
        return usual, None
    if usual in orders and usual is not None:
        if len(orders) == 1 or evidence.coils:
            return usual, None
        if plausible(shape, usual):
            words = f"axes taken as {', '.join(usual)}, the order of {kind}: nothing in the file confirms it"
            return usual, f"{words}; --axes names another"
    elif len(orders) == 1 and (evidence.flat or len(shape) == 3):
        return orders[0], f"axes recognized as {', '.join(orders[0])}: {evidence}"
    step = -1 if fastest_first else 1
    possible = [order[::step] for order in _orders(len(shape), certain=False)]
    allowed = [order for order in possible if evidence.allows(shape, order)]
    ranked = sorted(allowed or possible, key=lambda order: _unlikely(shape[::step], order[::step]))
    raise _unclear(shape, name, evidence, ranked)


def _unclear(shape: Sequence[int], name: str, evidence: Evidence, ranked: list[tuple[str, ...]]) -> InputError:
    """The error where axes have to be named, with the likeliest names, those that come first."""
    likely = ",".join(ranked[0] if ranked else ("frame", "average", "slice", "coil", "ky", "kx"))
    said = f", with {evidence}" if str(evidence) else ""
    return InputError(
        f"{name} does not tell which axis of its k-space is which",
        expected=f"one name for each axis, of {', '.join(NAMES)}",
        received=f"shape {tuple(shape)}{said}",
        remedy=f"If it is {likely}, give --axes {likely} (in Python axes='{likely}').",
    )


def _orders(n: int, certain: bool = True) -> list[tuple[str, ...]]:
    """Orders of k-space with n axes, ky before kx; ``certain``: with no leading axis but slices."""
    names: dict[int, list[tuple[str, ...]]] = {
        3: [("coil", "ky", "kx"), ("slice", "ky", "kx")],
        4: [("slice", "coil", "ky", "kx")],
    }
    if not certain:
        names |= {2: [("ky", "kx")], 5: [("average", "slice", "coil", "ky", "kx")]}
    orders = (order for some in names.get(n, []) for order in itertools.permutations(some))
    return [order for order in orders if order.index("ky") < order.index("kx")]


def plausible(shape: Sequence[int], order: Sequence[str]) -> bool:
    """Whether there is a coil axis, shorter than each spatial axis."""
    sizes = dict(zip(order, shape, strict=True))
    return sizes.get("coil", MOST_COILS + 1) < min(*(sizes[name] for name in order if name in SPATIAL), MOST_COILS + 1)


def _unlikely(shape: Sequence[int], order: Sequence[str]) -> tuple[bool | int, ...]:
    """Small for orders that many files have: kx after ky, behind or before a few coils, the last axes of all."""
    sizes = dict(zip(order, shape, strict=True))
    if "coil" not in sizes:
        return (True,)
    coil, ky, kx = (order.index(name) for name in ("coil", "ky", "kx"))
    usual = abs(kx - ky) == 1 and coil in (min(kx, ky) - 1, len(order) - 1)
    return False, sizes["coil"] == 1, not usual, not plausible(shape, order), -min(kx, ky)


def _among(some: Sequence[int], sizes: Sequence[int]) -> bool:
    left = list(sizes)
    for n in some:
        if n not in left:
            return False
        left.remove(n)
    return True
