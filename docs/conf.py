"""Sphinx settings of the documentation site, built by docs/build.py."""

import importlib.metadata
import re

project = "mrnoise"
author = "the mrnoise authors"
release = importlib.metadata.version("mrnoise")
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"mrnoise {release}"
html_static_path = []
html_theme_options = {"navigation_with_keys": True}
myst_heading_anchors = 4
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "imported-members": True, "undoc-members": False}
napoleon_numpy_docstring = True
napoleon_use_rtype = False

SECTION = re.compile(r"^(Parameters|Returns|Raises|Examples|Attributes|Yields|Notes|See Also)$")


def plain_formulas(app, what, name, obj, options, lines):
    """|x| is no substitution and F* no emphasis; what is indented among sentences is a formula, shown as it stands."""
    found, in_text, in_formula = [], True, False
    before = ""
    for line in lines:
        in_text = in_text and not SECTION.match(line)
        formula = in_text and line.startswith("    ")
        if formula and not in_formula and not before.strip():
            found += ["::", ""]
        if line.strip():
            in_formula = formula
        example = line.lstrip().startswith((">>>", "..."))
        before = line
        found.append(line if example or formula else re.sub(r"(?<!`)([|*])", r"\\\1", line))
    lines[:] = found


def setup(app):
    app.connect("autodoc-process-docstring", plain_formulas, priority=100)
