"""Control limits of a QA series: which numbers of the newest scan lie outside, and which drift."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrnoise.errors import InputError
from mrnoise.quality.history import NUMBERS, OF_COILS, History
from mrnoise.quantiles import student

# Scans that tell what is usual; at least so many tell a spread.
BASELINE, FEWEST = 5, 3
# Changes that do not matter, relative; of a correlation absolute.
LEAST_CHANGE = 0.03
# Probability of an alarm without a cause, of all numbers of one scan together.
FALSE_ALARM = 0.0027
# Scans before a drift is looked for.
FEWEST_OF_DRIFT = 6


@dataclass(frozen=True)
class Chart:
    """One number over time, with the limits of what is usual.

    Parameters
    ----------
    name
        ``"snr"``, ``"std"``, ``"noise"``, ``"correlation"``, and of each coil ``"noise of coil 3"`` and ``"signal of
        coil 3"``: over its baseline, and over what all coils have changed by in the median.
    values
        One a scan, by date.
    centre, limits
        Mean of the baseline and the limits of a further scan; NaN where there are too few.

    Examples
    --------
    >>> chart = Chart("snr", (30.0, 30.3, 29.8, 30.1, 30.0, 21.0), 30.04, (27.6, 32.7))
    >>> chart.outside
    (False, False, False, False, False, True)
    """

    name: str
    values: tuple[float, ...]
    centre: float
    limits: tuple[float, float]

    @property
    def outside(self) -> tuple[bool, ...]:
        """Which values lie outside the limits; without limits none but those that are zero."""
        low, high = self.limits
        return tuple(value < low or value > high or value == 0 for value in self.values)


@dataclass(frozen=True)
class Finding:
    """What is wrong with the newest scan, or with the scans up to it.

    Parameters
    ----------
    name
        Of the chart.
    kind
        ``"outside"`` the limits or ``"drift"``.
    change
        From the baseline, or along the fitted line from the first scan to the newest; relative, of a correlation
        absolute.
    text
        A sentence.

    Examples
    --------
    >>> print(Finding("std", "drift", 0.08, "std drifts: 8 % since 2026-05-04").text)
    std drifts: 8 % since 2026-05-04
    """

    name: str
    kind: str
    change: float
    text: str


def charts(history: History, *, baseline: int = BASELINE, least_change: float = LEAST_CHANGE) -> list[Chart]:
    """Every number over time with the limits of a further scan.

    Of n scans of the baseline, with x the logarithm of a number (of a correlation the number itself), m its mean and s
    its standard deviation,

        m ± max(t s √(1 + 1/n), least change),

    t the quantile of Student's distribution with n - 1 degrees of freedom beyond which one of all numbers of a scan
    lies by chance with probability 0.27 %, that of three standard deviations in Shewhart's charts.

    Parameters
    ----------
    history
        Scans by date.
    baseline
        The first so many tell what is usual.
    least_change
        Changes that do not matter.

    Raises
    ------
    InputError
        If the baseline is shorter than 3 scans or the least change is negative.

    Examples
    --------
    >>> charts(History())
    []
    """
    if baseline < FEWEST or not 0 <= least_change < 1:
        raise InputError(
            "no limits from this baseline",
            expected=f"{FEWEST} scans or more, and a least change from 0 to 1",
            received=f"{baseline} scans, {least_change:g}",
            remedy=f"The default is {BASELINE} scans and {LEAST_CHANGE:g}.",
        )
    if not history.records:
        return []
    columns = _columns(history, baseline)
    reach = math.inf
    if len(history.records) >= baseline:
        reach = _usual(len(columns), baseline - 1) * (1 + 1 / baseline) ** 0.5
    found = []
    for name, values in columns.items():
        x = _scaled(name, values[:baseline])
        if math.isinf(reach) or not np.isfinite(x).all():
            found.append(Chart(name, values, math.nan, (math.nan, math.nan)))
            continue
        mean, half = float(x.mean()), max(reach * float(x.std(ddof=1)), _least(name, least_change))
        centre, low, high = (_unscaled(name, value) for value in (mean, mean - half, mean + half))
        found.append(Chart(name, values, centre, (low, high)))
    return found


def findings(history: History, *, baseline: int = BASELINE, least_change: float = LEAST_CHANGE) -> list[Finding]:
    """What is wrong with the newest scan: numbers outside their limits, and those that drift.

    A number drifts where the slope of a straight line through all scans inside the limits differs from zero by
    Student's test, at the same probability as the limits, and the line has changed by more than the least change.

    Parameters
    ----------
    history, baseline, least_change
        As for `charts`.

    Raises
    ------
    InputError
        As `charts` does.

    Examples
    --------
    >>> findings(History())
    []
    """
    dates = [record.date for record in history.records]
    known = charts(history, baseline=baseline, least_change=least_change)
    drifts = [_drift(chart, dates, len(known), least_change) for chart in known if not chart.outside[-1]]
    return [*(_outside(chart) for chart in known if chart.outside[-1]), *filter(None, drifts)]


def _columns(history: History, baseline: int) -> dict[str, tuple[float, ...]]:
    qualities = [record.quality for record in history.records]
    columns = {name: np.array([getattr(q, name) for q in qualities]) for name in NUMBERS}
    for part in OF_COILS:
        values = np.array([[getattr(coil, part) for _, coil in sorted(q.coils.items())] for q in qualities])
        usual = np.median(values[:baseline], 0)
        ratio = values / np.where(usual > 0, usual, 1)
        # What all coils share is no matter of one; a dead coil leaves the median where it was.
        ratio = ratio / np.median(ratio, 1, keepdims=True)
        columns |= {f"{part} of coil {coil}": column for coil, column in enumerate(ratio.T)}
    return {name: tuple(column.tolist()) for name, column in columns.items()}


def _usual(n_charts: int, freedom: int) -> float:
    """Student's t beyond which one of so many numbers lies by chance, with the probability of a false alarm."""
    return float(student(1 - 0.5 * FALSE_ALARM / n_charts, freedom))


def _is_absolute(name: str) -> bool:
    return name == "correlation"


def _scaled(name: str, values: Sequence[float]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(values) if _is_absolute(name) else np.log(values)


def _unscaled(name: str, value: float) -> float:
    return value if _is_absolute(name) else math.exp(value)


def _least(name: str, change: float) -> float:
    return change if _is_absolute(name) else math.log1p(change)


def _words(name: str, change: float) -> str:
    return f"{change:+.3f}" if _is_absolute(name) else f"{100 * change:+.1f} %"


def _outside(chart: Chart) -> Finding:
    value, (low, high) = chart.values[-1], chart.limits
    if value == 0:
        return Finding(chart.name, "outside", -1.0, f"{chart.name} is zero")
    change = value - chart.centre if _is_absolute(chart.name) else value / chart.centre - 1
    text = f"{chart.name} is {value:.4g}, outside {low:.4g} to {high:.4g} ({_words(chart.name, change)})"
    return Finding(chart.name, "outside", change, text)


def _drift(chart: Chart, dates: Sequence[datetime.date], n_charts: int, least_change: float) -> Finding | None:
    inside = [i for i, outside in enumerate(chart.outside) if not outside]
    if len(inside) < FEWEST_OF_DRIFT or math.isnan(chart.centre):
        return None
    days = np.array([(dates[i] - dates[0]).days for i in inside], float)
    x = _scaled(chart.name, [chart.values[i] for i in inside])
    t, nu = days - days.mean(), len(days) - 2
    if not (t**2).sum() > 0:
        return None
    slope = float((t * x).sum() / (t**2).sum())
    rest = x - x.mean() - slope * t
    error = float(np.sqrt((rest**2).sum() / nu / (t**2).sum()))
    line = slope * (days[-1] - days[0])
    if abs(slope) <= _usual(n_charts, nu) * error or abs(line) <= _least(chart.name, least_change):
        return None
    change = line if _is_absolute(chart.name) else math.expm1(line)
    text = f"{chart.name} drifts: {_words(chart.name, change)} since {dates[inside[0]]}"
    return Finding(chart.name, "drift", change, text)
