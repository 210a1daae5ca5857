"""`python -m mrnoise`: the `mrnoise` command."""

from mrnoise.cli.main import run

if __name__ == "__main__":
    run()
