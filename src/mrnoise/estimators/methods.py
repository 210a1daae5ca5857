"""The methods by name: what ``method=`` and the command line accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mrnoise.errors import InputError
from mrnoise.estimators.choice.auto import Auto
from mrnoise.estimators.choice.colouring import Uncorrelated
from mrnoise.estimators.pairs import Nonlinear
from mrnoise.estimators.probing import AliasSets, Probe
from mrnoise.estimators.protocol import Method
from mrnoise.estimators.replicas import MonteCarlo
from mrnoise.estimators.rows import ClosedForm, Exact
from mrnoise.estimators.sketching import Sketch
from mrnoise.estimators.spotting import Spots
from mrnoise.extensions import extensions

METHODS: dict[str, Callable[..., Method]] = {
    "auto": Auto,
    "monte_carlo": MonteCarlo,
    "nonlinear": Nonlinear,
    "sketch": Sketch,
    "probe": Probe,
    "coloured": lambda: Probe(Uncorrelated()),
    "lattice": lambda: Probe(AliasSets()),
    "spots": Spots,
    "exact": Exact,
    "closed_form": ClosedForm,
}
"""Name → method, with its options as keyword arguments. Others come in by ``METHODS[name] = …``, or by an installed
package whose entry points of the group ``mrnoise.methods`` name them."""

# What takes each option, as an error says it.
TAKEN_BY = {
    "control_variate": ("control variates are not possible here", "one of auto, sketch, monte_carlo", ""),
    "half_precision": ("half precision is not possible here", "method sketch", ": auto takes it where it pays"),
}


def names() -> tuple[str, ...]:
    """What ``method=`` accepts.

    Examples
    --------
    >>> names()[:3]
    ('auto', 'monte_carlo', 'nonlinear')
    """
    return tuple(_all())


def method(given: str | Method, **options: Any) -> Method:
    """A method by its name, or itself.

    Parameters
    ----------
    given
        One of `names`, or a method object.
    options
        Of the method of that name; ``None`` leaves one out.

    Returns
    -------
    Method
        ``given`` itself, or one of that name with these options.

    Raises
    ------
    InputError
        If there is no such method, or it does not take an option.

    Examples
    --------
    >>> method("sketch", control_variate=True)
    Sketch(distribution='phase', control_variate=True, half_precision=None)
    """
    if isinstance(given, Method):
        return given
    table = _all()
    if given not in table:
        raise InputError(
            "unknown method",
            expected=f"one of {', '.join(table)}",
            received=str(given),
            remedy='Use "auto" to have it chosen.',
        )
    asked = {name: value for name, value in options.items() if value is not None}
    try:
        return table[given](**asked)
    except TypeError as error:
        unfit = next((name for name in asked if f"'{name}'" in str(error)), None)
        if unfit is None:
            raise
        if not asked[unfit]:
            return method(given, **{name: value for name, value in asked.items() if name != unfit})
        problem, expected, more = TAKEN_BY.get(unfit, (f"{unfit} is not possible here", "another method", ""))
        raise InputError(problem, expected=expected, received=given, remedy=f"Leave {unfit} out{more}.") from error


def _all() -> dict[str, Callable[..., Method]]:
    """Those of the table, then those of installed packages."""
    others = {name: point.load() for name, point in extensions("mrnoise.methods").items() if name not in METHODS}
    return METHODS | others
