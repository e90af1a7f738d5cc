"""How commands start and end: whatever stops one is told in one line, not in a traceback.

The module of a command begins like this, before its other imports:

    if __name__ == "__main__":
        from models.command import run

        run("models.evaluate")

so that a package that is missing, or Ctrl-C while packages are still being imported, is one line
as well. Its `main` is decorated with `command`.
"""

import functools
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, ParamSpec

from models.errors import PersonSearchError
from models.packages import how_to_install

FAILED, INTERRUPTED = 2, 130
LAYERS = ("models", "indexer", "service")

P = ParamSpec("P")


def command(main: Callable[P, int | None]) -> Callable[P, int]:
    """Turn what stops a command into one line on stderr and an exit code.

    Args:
        main: the command. It returns its exit code; None is 0. A KeyboardInterrupt that it raises
            may carry how to go on.

    Returns:
        The same; it returns FAILED where a PersonSearchError or OSError ended it or a package is
        missing, INTERRUPTED after Ctrl-C.
    """

    @functools.wraps(main)
    def ended(*arguments: P.args, **more: P.kwargs) -> int:
        try:
            return main(*arguments, **more) or 0
        except KeyboardInterrupt as stop:
            code, line = INTERRUPTED, ": ".join(["interrupted", *map(str, stop.args)])
        except (PersonSearchError, OSError) as error:
            code, line = FAILED, f"error: {_in_words(error)}"
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in ("", *LAYERS, *sys.stdlib_module_names):
                raise
            code, line = FAILED, f"error: {package} is not installed: {how_to_install(package)}"
        # Said only here, where the error is gone and with it every progress bar: they end their
        # line when they are closed.
        print(line, file=sys.stderr)
        return code

    return ended


@contextmanager
def goes_on() -> Iterator[None]:
    """While open, Ctrl-C says that the same command goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from here") from None


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Processes started while this is open never see Ctrl-C; this process has to end them.

    While it is open, this process ignores Ctrl-C too. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays ignored in what is started, and in what that starts; a blocked signal
    # would not stay blocked, for multiprocessing unblocks it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _in_words(error: PersonSearchError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def run(module: str) -> NoReturn:
    """Import the module of a command, run its `main` and exit with the code that it returns."""
    code = command(lambda: importlib.import_module(module).main())()
    if code == INTERRUPTED:
        # At once: Python would wait for threads that have not heard of it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
