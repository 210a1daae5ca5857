"""Imports run one way: the rooms of ARCHITECTURE in their order, no circle between files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "mrnoise"


def imports(path: Path, module: str) -> Iterator[str]:
    """Modules that a file imports when it is loaded or later, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(folder: Path) -> dict[str, set[str]]:
    """For each module of the package in ``folder`` the modules of it that it imports."""
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        found[module] = set()
        for name in imports(path, module):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name and name != module:
                found[module].add(name)
    return found


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Strongly connected parts of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            part = [stack.pop()]
            while part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for node in edges:
        if node not in index:
            visit(node)
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def order() -> list[str]:
    """The rooms in the order of ARCHITECTURE, from the ground up."""
    table = re.findall(r"^\| `([a-z_]+)(?:/|\.py)`", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.M)
    assert len(table) > 15
    return table


def against_the_order(edges: Mapping[str, set[str]], rooms: list[str]) -> list[str]:
    """Imports of a room that stands above, as ``importer -> imported``."""
    rank = {name: i for i, name in enumerate(rooms)}
    return [
        f"{module} -> {other}"
        for module, others in edges.items()
        for other in sorted(others)
        if room(module) and room(other) and rank[room(other)] > rank[room(module)]
    ]


def test_every_room_stands_in_the_architecture() -> None:
    there = {room(module) for module in graph(SOURCE)} - {""}
    assert there == set(order())


def test_no_import_runs_against_the_order() -> None:
    assert against_the_order(graph(SOURCE), order()) == []


def test_files_import_in_no_circle() -> None:
    edges = {module: {o for o in others if o != "mrnoise"} for module, others in graph(SOURCE).items()}
    assert circles(edges) == []


@pytest.mark.parametrize("planted", ["function", "module"])
def test_a_planted_circle_is_found(tmp_path: Path, planted: str) -> None:
    package = tmp_path / "mrnoise"
    (package / "upper").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "upper" / "__init__.py").write_text("")
    (package / "upper" / "a.py").write_text("from mrnoise import ground\n")
    line = "from mrnoise.upper.a import x"
    (package / "ground.py").write_text(f"def f():\n    {line}\n" if planted == "function" else f"{line}\n")
    edges = graph(package)
    assert circles(edges) == [["mrnoise.ground", "mrnoise.upper.a"]]
    assert against_the_order(edges, ["ground", "upper"]) == ["mrnoise.ground -> mrnoise.upper.a"]


def test_no_name_of_a_package_is_a_module_and_something_else() -> None:
    """`mrnoise.estimators.linearity` was both: `.LINEAR` of it failed, or not, by what was imported before."""
    for init in SOURCE.rglob("__init__.py"):
        folder = init.parent
        modules = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}
        exported = {name.rpartition(".")[2] for name in imports(init, "") if name.startswith("mrnoise.")}
        own = ".".join(init.parent.relative_to(SOURCE.parent).parts)
        whole = {n.rpartition(".")[2] for n in imports(init, "") if n.rpartition(".")[0] == own}
        assert not modules & (exported - whole), init
