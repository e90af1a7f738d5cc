"""python -m service.restore: python -m indexer restore, for a service that is stopped."""

import sys

from indexer.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["restore", *sys.argv[1:]]))
