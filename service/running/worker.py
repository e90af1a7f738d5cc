"""One thread that runs the model, and the two bounded lanes of work that wait for it.

There is no micro-batching: on a CPU a batch of pictures takes as long as the pictures one by one
(measured: time is linear in regions, flat from 8 to 300 at once), so collecting requests would
only add waiting. One thread also bounds memory: one decoded picture at a time, whoever waits.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Generic, TypeVar

from service.http.errors import DeadlineError, OverloadedError, ShuttingDownError

T = TypeVar("T")


class Lane(StrEnum):
    """Order of work: searches before additions; within a lane, first come, first served."""

    SEARCH = "search"
    INGEST = "ingest"


@dataclass(frozen=True)
class Done(Generic[T]):
    """What a piece of work returned, and how long it waited and ran."""

    value: T
    queue_ms: float
    run_ms: float


@dataclass(frozen=True)
class _Job:
    work: Callable[[], Any]
    future: "Future[Done[Any]]"
    queued_at: float


class Worker:
    """Runs work one by one on its own thread. Every method may be called from any thread."""

    def __init__(self, *, search_max: int = 64, ingest_max: int = 256) -> None:
        self._max = {Lane.SEARCH: search_max, Lane.INGEST: ingest_max}
        self._lanes: dict[Lane, deque[_Job]] = {lane: deque() for lane in Lane}
        self._changed = threading.Condition()
        self._closed = False
        self._running: _Job | None = None
        self._began = 0.0
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    async def run(self, lane: Lane, work: Callable[[], T], *, deadline_s: float) -> Done[T]:
        """Wait for a piece of work. When the waiting task is cancelled, unstarted work is dropped.

        Raises:
            OverloadedError: too much is waiting in the lane.
            ShuttingDownError: the worker is closed, or was while this waited.
            DeadlineError: not done in time. Work that had started is finished nevertheless.
        """
        future = self.submit(lane, work)
        waiting = asyncio.wrap_future(future)
        done: set[asyncio.Future[Done[T]]] = set()
        try:
            done, _ = await asyncio.wait([waiting], timeout=deadline_s)
        finally:
            if not done:
                # Cancelling only what asyncio waits for would reach the future a moment later.
                future.cancel()
                waiting.cancel()
                self.drop_cancelled(lane)
        if not done:
            raise DeadlineError(f"Not done within {deadline_s:g} s.")
        return waiting.result()

    def submit(self, lane: Lane, work: Callable[[], T]) -> "Future[Done[T]]":
        """Queue a piece of work; it runs in the caller's context.

        Raises:
            OverloadedError, ShuttingDownError: as `run` does.
        """
        future: Future[Done[T]] = Future()
        with self._changed:
            if self._closed:
                raise ShuttingDownError("The service is shutting down.")
            if len(self._lanes[lane]) >= self._max[lane]:
                raise OverloadedError(f"{self._max[lane]} requests are waiting already.")
            within = partial(copy_context().run, work)
            self._lanes[lane].append(_Job(within, future, time.monotonic()))
            self._changed.notify()
        return future

    def drop_cancelled(self, lane: Lane) -> None:
        """Free the places in a lane of work that was cancelled."""
        with self._changed:
            jobs = self._lanes[lane]
            self._lanes[lane] = deque(job for job in jobs if not job.future.cancelled())

    def waiting(self, lane: Lane) -> int:
        """How much work waits in a lane."""
        return len(self._lanes[lane])

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes work."""
        return self._thread.is_alive() and not self._closed

    @property
    def busy_s(self) -> float:
        """How long the piece of work that runs has been running; 0 while none does."""
        return 0.0 if self._running is None else time.monotonic() - self._began

    def refuse(self) -> None:
        """Take no more work and give back what waits; what runs is finished."""
        with self._changed:
            self._closed = True
            jobs = [job for lane in self._lanes.values() for job in lane]
            for lane in self._lanes.values():
                lane.clear()
            self._changed.notify()
        for job in jobs:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(ShuttingDownError("The service is shutting down."))

    def abandon(self) -> None:
        """Refuse further work, and wait no more for what runs: who does is told so."""
        self.refuse()
        running = self._running
        if running is not None:
            with suppress(InvalidStateError):  # it ended meanwhile
                running.future.set_exception(ShuttingDownError("The service is shutting down."))

    def close(self, wait_s: float) -> None:
        """Refuse further work and wait at most so long for what runs; it is then given up."""
        self.refuse()
        self._thread.join(wait_s)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            self._began = started = time.monotonic()
            self._running = job
            try:
                value = job.work()
            except Exception as error:  # goes to who waits; this thread must live on
                with suppress(InvalidStateError):  # it was abandoned
                    job.future.set_exception(error)
            else:
                ended = time.monotonic()
                queue_ms, run_ms = (started - job.queued_at) * 1e3, (ended - started) * 1e3
                with suppress(InvalidStateError):
                    job.future.set_result(Done(value, queue_ms, run_ms))
            finally:
                self._running = None

    def _next(self) -> _Job | None:
        with self._changed:
            while True:
                for lane in self._lanes.values():
                    if lane:
                        return lane.popleft()
                if self._closed:
                    return None
                self._changed.wait()
