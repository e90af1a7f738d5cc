"""Start the service in a container, in place of this process; without any API key, make two first.

They lie in /keys, a volume of their own: api-keys has an admin's, for people, and one that reads
metrics, whose secret stands alone in the file metrics, for Prometheus.
"""

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

KEYS = Path(os.environ.get("KEYS_DIR", "/keys"))
API_KEYS = KEYS / "api-keys"
METRICS_KEY = KEYS / "metrics"


def main() -> None:
    given = ("PERSON_SEARCH_API_KEYS", "PERSON_SEARCH_API_KEYS_FILE")
    if not any(os.environ.get(name) for name in given):
        try:
            make_keys()
        except (OSError, ValueError) as error:
            sys.exit(
                f"error: cannot make API keys: {error}. Let user {os.getuid()} write in {KEYS}, "
                "or set PERSON_SEARCH_API_KEYS=name:admin:secret"
            )
        os.environ["PERSON_SEARCH_API_KEYS_FILE"] = str(API_KEYS)
        print(f"The admin's API key is the end of the first line of {API_KEYS}:", file=sys.stderr)
        print(f"    docker compose exec service head -1 {API_KEYS}", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "service", *sys.argv[1:]])


def make_keys() -> None:
    """Once, whoever is first of several that start together.

    Raises:
        OSError, ValueError: keys cannot be written, or those that are there cannot be read.
    """
    if not API_KEYS.exists():
        admin, metrics = secrets.token_hex(32), secrets.token_hex(32)
        new = write(f"admin:admin:{admin}\nprometheus:metrics:{metrics}\n", mode=0o600)
        with suppress(FileExistsError):
            os.link(new, API_KEYS)
        new.unlink()
    for line in API_KEYS.read_text(encoding="utf-8").splitlines():
        name, _, secret = line.strip().rpartition(":")
        if name == "prometheus:metrics" and not is_there(secret):
            write(secret, mode=0o644).replace(METRICS_KEY)


def is_there(metrics: str) -> bool:
    """Whether Prometheus has this secret already."""
    return METRICS_KEY.exists() and METRICS_KEY.read_text(encoding="utf-8") == metrics


def write(text: str, *, mode: int) -> Path:
    """A new file that is on disk, under a passing name."""
    new = KEYS / f"{secrets.token_hex(8)}.new"
    new.touch(mode, exist_ok=False)
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return new


if __name__ == "__main__":
    main()
