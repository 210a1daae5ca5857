"""The one error a user of mrnoise sees for bad input."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any


class InputError(ValueError):
    """Something given to mrnoise cannot be used.

    Parameters
    ----------
    problem
        What is wrong, in one clause.
    expected, received
        What was needed and what was found, with values.
    remedy
        What the user can do about it.

    Examples
    --------
    >>> raise InputError("no such coil", expected="0 to 7", received="8", remedy="Coils are counted from 0.")
    Traceback (most recent call last):
        ...
    mrnoise.errors.InputError: no such coil: expected 0 to 7; received 8. Coils are counted from 0.
    """

    def __init__(self, problem: str, *, expected: str, received: str, remedy: str) -> None:
        self.problem, self.expected, self.received, self.remedy = problem, expected, received, remedy
        super().__init__(f"{problem}: expected {expected}; received {received}. {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """From a worker process it arrives as it was raised."""
        parts = {"expected": self.expected, "received": self.received, "remedy": self.remedy}
        return partial(type(self), self.problem, **parts), ()


def require_extra(extra: str, *modules: str) -> None:
    """Raise `InputError` unless the packages of an optional part of mrnoise are installed.

    Examples
    --------
    >>> require_extra("train", "json")
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise InputError(
            "an optional part of mrnoise is not installed",
            expected=f"the packages of mrnoise[{extra}]",
            received=f"no {', no '.join(missing)}",
            remedy=f"pip install 'mrnoise[{extra}]'",
        )
