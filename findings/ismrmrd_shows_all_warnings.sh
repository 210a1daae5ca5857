#!/usr/bin/env bash
# Importing ismrmrd 1.15.0 switches on every warning of the whole process.
#
# Its module image calls warnings.simplefilter("default"). From then on, DeprecationWarning and ResourceWarning of any
# other library, with the path of the file that raised them, reach the terminal of a program that never asked for them,
# and filters that were set before the import no longer hold.
#
# Seen with ismrmrd 1.15.0, numpy 1.26.4, Python 3.11. Fails where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ismrmrd==1.15.0" "numpy==1.26.4"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import warnings

warnings.simplefilter("ignore")  # what the program wants


def shown():
    """What a deprecated call writes to the terminal."""
    terminal, sys.stderr = sys.stderr, io.StringIO()
    try:
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
        return sys.stderr.getvalue()
    finally:
        sys.stderr = terminal


before = shown()
import ismrmrd  # noqa: E402

after = shown()
print("filter in front:", warnings.filters[0])
print("before the import:", repr(before.splitlines()[:1]), "after:", "shown" if "old name" in after else "silent")
assert before == "" and "old name" in after, "the behaviour has changed"
assert warnings.filters[0][0] == "default" and warnings.filters[0][2] is Warning
PYTHON
