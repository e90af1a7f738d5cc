"""Ids that sort by the time they were made: a ULID behind a prefix."""

import secrets
import threading
import time

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """prefix + 26 Crockford characters: 48 bits of milliseconds, then 80 random bits.

    Ids of one process only ever grow, also within a millisecond and when the clock is set back.
    """
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1_000_000 << 80 | secrets.randbits(80))
        value = _last
    return prefix + "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
