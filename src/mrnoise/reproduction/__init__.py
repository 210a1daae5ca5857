"""The evaluation of the paper, and what goes beyond it: cells, their shards, the report."""

from mrnoise.reproduction.grid import GRID, SIZES, cells, possible
from mrnoise.reproduction.runner import run
from mrnoise.reproduction.shards import Cell, read_shard

__all__ = ["GRID", "SIZES", "Cell", "cells", "possible", "read_shard", "run"]
