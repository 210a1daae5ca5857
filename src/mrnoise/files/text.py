"""Numbers and names as text."""

from __future__ import annotations

import math

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def printable(name: str) -> str:
    r"""A name that may hold anything, in characters that can be printed and written.

    Examples
    --------
    >>> printable("scan\udcff\n.h5")
    'scan\\udcff\\n.h5'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def counted(n: int, things: str) -> str:
    """A number of things, named in the plural.

    Examples
    --------
    >>> counted(1, "samples"), counted(20, "samples")
    ('1 sample', '20 samples')
    """
    return f"{n} {things.removesuffix('s') if n == 1 else things}"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, powers of ten written out: 3.21 × 10⁻⁶."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -3 <= exponent < 5:
        return f"{value:.{max(digits - 1 - exponent, 0)}f}"
    return f"{value / 10**exponent:.{digits - 1}f} × 10{str(exponent).translate(SUPERSCRIPTS)}"


def plus_minus(value: float, error: float | None) -> str:
    """A number with its error to two digits: 19.440 ± 0.012, (3.21 ± 0.12) × 10⁻⁶."""
    if error is None or not math.isfinite(value):
        return significant(value, 4)
    if not math.isfinite(error) or error <= 0:
        return f"{significant(value, 4)} ± {significant(error)}"
    power = math.floor(math.log10(max(abs(value), error)))
    power = 0 if -3 <= power < 5 else power
    value, error = value / 10.0**power, error / 10.0**power
    places = max(1 - math.floor(math.log10(error)), 0)
    text = f"{value:.{places}f} ± {error:.{places}f}"
    return f"({text}) × 10{str(power).translate(SUPERSCRIPTS)}" if power else text
