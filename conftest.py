"""What every layer's tests share."""

import os
import random

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seed() -> int:
    """For random tests; printed, so that a failure shows it. PROOF_SEED repeats one."""
    chosen = int(os.environ.get("PROOF_SEED", random.randrange(2**32)))
    print(f"PROOF_SEED={chosen}")  # noqa: T201
    return chosen


def pytest_collection_modifyitems(config, items):
    """Tests marked soak take hours: they run only where -m names them.

    (Not by -m in addopts: any other -m would take its place.)
    """
    if "soak" in config.option.markexpr:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=soak)
    items[:] = [item for item in items if item not in set(soak)]
