"""The table that a QA series grows in: one scan a line."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mrnoise.errors import InputError
from mrnoise.files.atomic import replacing
from mrnoise.files.text import printable
from mrnoise.quality.phantom import CoilQuality, Quality

WORDS = ("date", "scan", "sha256", "measured")
NUMBERS = ("snr", "std", "noise", "correlation")
OF_COILS = ("noise", "signal")


@dataclass(frozen=True)
class Record:
    """A line of the table.

    Parameters
    ----------
    date
        When the scan was taken.
    scan
        Its name.
    sha256
        Of all that its map depends on; a scan is in the table once.
    measured
        How: reconstruction, matrix, region. A table has one way.
    quality
        What was found.

    Examples
    --------
    >>> found = Quality(42.0, 0.02, 0.02, 0.3, {0: CoilQuality(0.02, 0.7)})
    >>> Record(datetime.date(2026, 5, 4), "week1.h5", "9f3a", "CgSense(0.001), object", found).quality.snr
    42.0
    """

    date: datetime.date
    scan: str
    sha256: str
    measured: str
    quality: Quality


@dataclass(frozen=True)
class History:
    """Scans of one phantom, measured in one way, by date.

    Parameters
    ----------
    records
        In any order.

    Examples
    --------
    >>> found = Quality(42.0, 0.02, 0.02, 0.3, {0: CoilQuality(0.02, 0.7)})
    >>> history = History()
    >>> for week in (18, 11, 4):
    ...     record = Record(datetime.date(2026, 5, week), "scan.h5", str(week), "CgSense(0.001), object", found)
    ...     history = history.with_record(record)
    >>> [record.date.day for record in history.records], history.n_coils
    ([4, 11, 18], 1)
    """

    records: tuple[Record, ...] = ()

    @property
    def n_coils(self) -> int:
        """Coils of every scan, dead ones included; 0 of none."""
        return max((len(record.quality.coils) for record in self.records), default=0)

    def with_record(self, record: Record) -> History:
        """With one more scan.

        Raises
        ------
        InputError
            If the scan is there already, was measured in another way or has more coils than those before.
        """
        for line, other in enumerate(self.records, start=2):
            if other.sha256 == record.sha256:
                raise InputError(
                    "this scan is in the table already",
                    expected="a scan that was not measured before",
                    received=f"{record.scan}, which is {other.scan} of {other.date} in line {line}",
                    remedy="Leave the scan out to see the limits again.",
                )
            if other.measured != record.measured:
                raise InputError(
                    "this table holds numbers that were measured in another way",
                    expected=other.measured,
                    received=record.measured,
                    remedy="Give the same reconstruction, matrix, region and slices, or begin another table.",
                )
        n = len(record.quality.coils)
        if self.records and n > self.n_coils:
            raise InputError(
                "this scan has more coils than those before",
                expected=f"{self.n_coils} coils",
                received=f"{n}",
                remedy="Begin another table for another coil array.",
            )
        # The last coils of a file may be the dead ones.
        coils = dict.fromkeys(range(max(n, self.n_coils)), CoilQuality(0.0, 0.0)) | record.quality.coils
        added = replace(record, quality=replace(record.quality, coils=coils))
        return History(tuple(sorted((*self.records, added), key=lambda one: one.date)))

    @classmethod
    def read(cls, path: Path) -> History:
        """Of a CSV file; empty where there is none or nothing in it.

        Raises
        ------
        InputError
            If the file is no such table.
        """
        if not path.exists():
            return cls()
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark before the first column
                table = csv.DictReader(file, strict=True)
                rows, names = list(table), table.fieldnames
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise _no_table(path, str(error)) from error
        if names is not None:
            _columns(path, names)
        return cls(tuple(_record(path, line, row) for line, row in enumerate(rows, start=2)))

    def write(self, path: Path) -> None:
        """As CSV, one column a number; the file appears whole or stays as it was."""
        names = [*WORDS, *NUMBERS, *(_column(name, coil) for coil in range(self.n_coils) for name in OF_COILS)]
        with replacing(path) as (temporary,), temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(names)
            table.writerows(_row(record) for record in self.records)


def _column(name: str, coil: int) -> str:
    return f"{name}_{coil}"


def _row(record: Record) -> list[str]:
    numbers = [getattr(record.quality, name) for name in NUMBERS]
    numbers += [getattr(coil, name) for _, coil in sorted(record.quality.coils.items()) for name in OF_COILS]
    words = (record.date.isoformat(), record.scan, record.sha256, record.measured)
    return [*words, *(f"{number:.6g}" for number in numbers)]


def _columns(path: Path, found: Collection[str]) -> list[str]:
    """Names of the columns, if these are they; a name that is none is that of cells behind the last column."""
    coils = range(sum(name is not None and name.startswith("noise_") for name in found))
    columns = [*WORDS, *NUMBERS, *(_column(name, coil) for coil in coils for name in OF_COILS)]
    if set(found) != set(columns) or not coils:
        raise _no_table(path, f"columns {printable(', '.join(map(str, found)))[:200]}")
    return columns


def _record(path: Path, line: int, row: Mapping[str, str | None]) -> Record:
    columns = _columns(path, row)
    try:
        date = datetime.date.fromisoformat(row["date"] or "")
        numbers = [float(row[name] or "") for name in columns[len(WORDS) :]]
    except ValueError as error:
        raise _no_table(path, f"line {line}: {error}") from error
    if not all(0 <= number < float("inf") for number in numbers):
        raise _no_table(path, f"line {line}: {numbers}")
    whole, of_coils = numbers[: len(NUMBERS)], numbers[len(NUMBERS) :]
    found = dict(enumerate(_pairs(of_coils)))
    scan, digest, measured = (row[name] or "" for name in WORDS[1:])
    snr, std, noise, correlation = whole
    return Record(date, scan, digest, measured, Quality(snr, std, noise, correlation, found))


def _pairs(numbers: Sequence[float]) -> list[CoilQuality]:
    return [CoilQuality(*numbers[i : i + 2]) for i in range(0, len(numbers), 2)]


def _no_table(path: Path, received: str) -> InputError:
    return InputError(
        f"{path.name} is no table of a QA series",
        expected="what `mrnoise qa` wrote, a date as 2026-05-04 and positive numbers in every line",
        received=received,
        remedy="Give another file; mrnoise qa makes one that is not there.",
    )
