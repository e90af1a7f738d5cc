"""Previews of erasures: a caller sees one, and may agree to exactly that."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from indexer.times import now
from service.http.errors import RequestError

TOKEN_S = 900.0
MAX_PREVIEWS = 100


@dataclass(frozen=True)
class Preview:
    """What was shown.

    Attributes:
        what: the kind of thing that `ids` name.
        ids: of everything that would be erased.
        holds: tells whether the same would be erased now.
    """

    what: Literal["images", "detections"]
    ids: frozenset[str]
    holds: Callable[[], bool]


class Previews:
    """Previews by token, in memory: a restart forgets them, other services of the gallery never
    know them. Any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Preview, float]] = {}

    def hold(self, preview: Preview) -> tuple[str, datetime]:
        """A token, and when it expires. With too many previews, the oldest is forgotten."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            while len(self._held) >= MAX_PREVIEWS:
                self._held.pop(next(iter(self._held)))
            self._held[token] = preview, time.monotonic() + TOKEN_S
        return token, now() + timedelta(seconds=TOKEN_S)

    def take(self, token: str) -> Preview:
        """The preview of a token, which is then used up.

        Raises:
            RequestError: erasure_token.
        """
        with self._lock:
            preview, expires = self._held.pop(token, (None, 0.0))
        if preview is None or expires < time.monotonic():
            raise RequestError(
                "erasure_token", "The token was used, has expired, or is not of this service."
            )
        return preview
