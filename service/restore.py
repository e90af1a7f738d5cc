"""python -m service.restore: python -m indexer restore, for a service that is stopped."""

if __name__ == "__main__":
    from models.command import run

    run("service.restore")

import sys
from collections.abc import Sequence

from indexer.__main__ import main as indexer


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    return indexer(["restore", *given], prog="python -m service.restore")
