"""What every test shares: one thread, no deadline for a property, and the recorded data where there is some."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(1)
# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("resim", deadline=None)
hypothesis.settings.load_profile("resim")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of recorded data: RESIM_REAL_DATA, or ../shared/data beside the checkout.

    A test without it is skipped, or fails where RESIM_REQUIRE_REAL_DATA=1 says that it has to be there.
    """
    folder = Path(os.environ.get("RESIM_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if folder.is_dir():
        return folder
    message = f"recorded data not found at {folder}; set RESIM_REAL_DATA to its folder"
    if os.environ.get("RESIM_REQUIRE_REAL_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)
