"""The tables of docs/reproduction.md, from the shards of `mrnoise reproduce`.

    mrnoise reproduce --quick --data FOLDER -o benchmarks/results/reproduction
    python benchmarks/reproduction.py

A table stands between <!-- table NAME --> and <!-- end -->. What has no shards is left as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

from mrnoise.reproduction import cells
from mrnoise.reproduction.page import read_tables
from mrnoise.reproduction.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS, SIZE = ROOT / "docs" / "reproduction.md", ROOT / "benchmarks" / "results" / "reproduction", "quick"


def filled(text: str) -> str:
    """The page with the tables of the shards."""
    shards = read_tables(cells(SIZE), RESULTS / SIZE)

    def table(found: re.Match[str]) -> str:
        name = found[1]
        if name not in shards:
            return found[0]
        return f"<!-- table {name} -->\n\n{TABLES[name].markdown(shards[name])}\n\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", table, text, flags=re.S)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
