"""What tests need of the machine."""

import os

import pytest


def missing(what):
    """Skip the test, since something of the system is not there; where CI is set, it has to be."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; CI is set, so it has to be there")
    pytest.skip(what)
