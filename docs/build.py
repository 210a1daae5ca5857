"""Build the documentation site: run the examples of every page, then Sphinx, every warning an error.

Pages are copied, run and built in a folder of their own. An example is a ```python block; those of a page run one after
another in one process, in the folder of the page, so that the pictures that they save are those that the page shows.
With --pictures these replace the ones of the repository.

python docs/build.py [--output build/docs] [--pictures]
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
# Pages whose blocks need a scan, a network or a toolbox of the reader.
NOT_RUN = {"README.md", "docs/networks.md", "docs/toolboxes.md"}
# What files of the repository pages link to.
LINKED = ("findings", "LICENSE", "CITATION.cff", "container", "benchmarks")
PACKAGES = (
    "mrnoise",
    "mrnoise.acquisition",
    "mrnoise.sampling",
    "mrnoise.calibration",
    "mrnoise.encoding",
    "mrnoise.reconstruction",
    "mrnoise.networks",
    "mrnoise.estimators",
    "mrnoise.linearization",
    "mrnoise.closed_form",
    "mrnoise.measurement",
    "mrnoise.ranking",
    "mrnoise.quality",
    "mrnoise.simulation",
    "mrnoise.training",
    "mrnoise.io",
    "mrnoise.export",
    "mrnoise.serving",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "docs")
    parser.add_argument("--pictures", action="store_true", help="replace the pictures of the repository")
    options = parser.parse_args()
    source, site = options.output / "source", options.output / "site"
    shutil.rmtree(options.output, ignore_errors=True)
    copy_pages(source)
    made = {page: run(source / page) for page in pages(source) if page not in NOT_RUN}
    for page, pictures in made.items():
        print(f"{page}: {', '.join(pictures) or 'no picture'}", flush=True)
        for picture in pictures if options.pictures else ():
            shutil.copy((source / page).parent / picture, (ROOT / page).parent / picture)
    write_reference(source / "docs" / "api")
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-c", source / "docs", source, site],
        check=True,
    )
    (site / "index.html").write_text('<meta http-equiv="refresh" content="0; url=docs/index.html">\n')
    print(f"wrote {site}/docs/index.html")


def copy_pages(source: Path) -> None:
    """The pages and what they link to."""
    source.mkdir(parents=True)
    for page in ROOT.glob("*.md"):
        shutil.copy(page, source)
    shutil.copytree(ROOT / "docs", source / "docs")
    for name in LINKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source)


def pages(source: Path) -> list[str]:
    """Those with examples."""
    found = sorted(source.glob("*.md")) + sorted(source.glob("docs/**/*.md"))
    return [str(page.relative_to(source)) for page in found if BLOCK.search(page.read_text())]


def run(page: Path) -> list[str]:
    """Run the examples of a page; the pictures that it made, each of which it has to show."""
    text = page.read_text()
    shown = set(re.findall(r"\]\(([\w./-]+\.png)\)", text))
    before = {path: path.stat().st_mtime_ns for path in page.parent.glob("*.png")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(BLOCK.findall(text))],
        cwd=page.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        sys.exit(f"an example of {page} fails:\n{done.stderr}")
    made = [p.name for p in sorted(page.parent.glob("*.png")) if before.get(p) != p.stat().st_mtime_ns]
    if not set(made) <= shown:
        sys.exit(f"{page} does not show {', '.join(sorted(set(made) - shown))}, which its example makes")
    return made


def write_reference(folder: Path) -> None:
    """A page a package, of the docstrings of what it exports."""
    folder.mkdir()
    names = [package.rpartition(".")[2] for package in PACKAGES]
    listed = "\n".join(names)
    (folder / "index.md").write_text(f"# API reference\n\n```{{toctree}}\n:maxdepth: 1\n{listed}\n```\n")
    modules = {package: importlib.import_module(package) for package in PACKAGES}
    described: set[int] = set()
    for package, name in reversed(list(zip(PACKAGES, names, strict=True))):
        # What a package shows again, as the root does, is described where it lies.
        members = {member: id(getattr(modules[package], member)) for member in modules[package].__all__}
        again = ", ".join(member for member, found in members.items() if found in described)
        described.update(members.values())
        text = f"# {package}\n\n```{{eval-rst}}\n.. automodule:: {package}\n"
        text += f"   :exclude-members: {again}\n```\n\nUnder this name too: {again}.\n" if again else "```\n"
        (folder / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
