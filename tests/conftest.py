import os
import signal
from pathlib import Path

import pytest
import torch

os.environ["COLUMNS"] = "160"  # the width of tables
torch.set_num_threads(1)  # the tests run in two processes


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real scans beside the checkout, where there are some."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no folder of real scans beside the checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """Raises, in processes that tests start too, also where a shell runs the tests in its background and ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
