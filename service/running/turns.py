"""Work that many may ask for at once and few may do: who waits holds no thread."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from service.http.errors import DeadlineError, OverloadedError

T = TypeVar("T")


class Turns:
    """Turns on threads, in the order in which they were asked for. For one event loop."""

    def __init__(self, *, at_once: int, places: int) -> None:
        """
        Args:
            at_once: how much work runs.
            places: how many may wait, work, or still be sending what came of it.
        """
        self._turn = asyncio.Semaphore(at_once)
        self._places = places
        self._taken = 0

    def enter(self) -> None:
        """Take a place, until `leave`.

        Raises:
            OverloadedError: none is free.
        """
        if self._taken >= self._places:
            raise OverloadedError(f"{self._places} pictures are being made already.")
        self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        self._taken -= 1

    async def run(self, work: Callable[[], T], *, deadline_s: float) -> T:
        """Do work on a thread once it is its turn; from a place.

        Raises:
            DeadlineError: its turn did not come in time.
            Whatever the work raises.
        """
        try:
            async with asyncio.timeout(deadline_s):
                await self._turn.acquire()
        except TimeoutError:
            raise DeadlineError(f"Its turn did not come within {deadline_s:g} s.") from None
        try:
            return await anyio.to_thread.run_sync(work)
        finally:
            self._turn.release()
