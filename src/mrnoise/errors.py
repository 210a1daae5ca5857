"""The one error a user of mrnoise sees for bad input."""

from __future__ import annotations

from functools import partial
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
    """

    def __init__(self, problem: str, *, expected: str, received: str, remedy: str) -> None:
        self.problem, self.expected, self.received, self.remedy = problem, expected, received, remedy
        super().__init__(f"{problem}: expected {expected}; received {received}. {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """From a worker process it arrives as it was raised."""
        parts = {"expected": self.expected, "received": self.received, "remedy": self.remedy}
        return partial(type(self), self.problem, **parts), ()
