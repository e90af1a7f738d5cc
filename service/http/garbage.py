"""When Python looks for garbage: not while a large document is taken apart.

Each look walks over what there is, while all threads wait. A document of some megabytes becomes
hundreds of thousands of objects, none of them garbage, and is walked over again and again.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_open = 0


@contextmanager
def not_collected() -> Iterator[None]:
    """While one of these is open, Python does not look for garbage. For seconds, not longer."""
    global _open
    with _lock:
        _open += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if not _open:
                gc.enable()


def freeze() -> None:
    """Pass over in each look what there is now: it stays. To be called once all is loaded."""
    gc.collect()
    gc.freeze()
