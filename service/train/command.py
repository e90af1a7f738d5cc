"""What the commands of training share: a log on the screen and in a file, and errors in words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger("service.train")


@contextmanager
def logged(out: Path) -> Iterator[None]:
    """Tell what happens on stderr, beside progress bars, and in log.txt of a directory."""
    log.setLevel(logging.INFO)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(),
        logging.FileHandler(out / "log.txt"),
    ]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    try:
        with logging_redirect_tqdm([log]):
            yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


@contextmanager
def silent() -> Iterator[None]:
    """Tell nothing, as all processes of a training but the first."""
    nothing = logging.NullHandler()
    log.addHandler(nothing)
    try:
        yield
    finally:
        log.removeHandler(nothing)


def told(error: ValidationError | SettingsError) -> str:
    """What is wrong with flags, a line each."""
    if isinstance(error, SettingsError):  # of a list: a word that reads like JSON, as "nan" does
        return f"error: {error}: {error.__cause__}"
    lines = []
    for problem in error.errors():
        flag = "--" + "".join(map(str, problem["loc"][:1])).replace("_", "-")
        where = f"{flag}: " if problem["loc"] else ""
        lines.append(f"error: {where}{problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
