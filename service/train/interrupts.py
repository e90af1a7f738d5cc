"""Ctrl-C while training: a step is finished and kept before the training ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch
from torch import distributed

from models.nn.joint import shared_device

Batch = TypeVar("Batch")


class Interrupts:
    """Takes Ctrl-C from Python while it is entered: the first one is only noted.

    So a step is never cut in two, and what comes after it can be saved. A second Ctrl-C raises
    KeyboardInterrupt wherever the training is. Outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self._noted = False
        self._at_once = False
        self._before: signal._HANDLER = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._noted and kind is not None and distributed.is_initialized():
            # Where another process ended first, what fails here is the connection to it.
            raise KeyboardInterrupt from None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted or self._at_once:
            raise KeyboardInterrupt
        self._noted = True

    def noted(self) -> bool:
        """Whether Ctrl-C was pressed, for this or for another process of the training."""
        if not distributed.is_initialized():
            return self._noted
        anywhere = torch.tensor([int(self._noted)], device=shared_device())
        distributed.all_reduce(anywhere, distributed.ReduceOp.MAX)
        return bool(anywhere.item())

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, the first Ctrl-C raises KeyboardInterrupt: there is nothing to finish."""
        self._at_once = True
        try:
            if self._noted:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def first_at_once(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; Ctrl-C does not wait for the first one, before which nothing is
        learned and helper processes are being started."""
        with self.at_once():
            first = next(batches, None)
        if first is not None:
            yield first
            yield from batches


@contextmanager
def how_to_go_on(checkpoint: Path, *, resumed: bool) -> Iterator[None]:
    """Let a KeyboardInterrupt from within carry what is kept, and how to go on.

    Args:
        resumed: whether the training goes on from what the checkpoint held before.
    """
    before = _state(checkpoint)
    try:
        yield
    except KeyboardInterrupt:
        now = _state(checkpoint)
        if now is not None and (resumed or now != before):
            says = f"the same command with --resume goes on from {checkpoint}"
        else:
            says = "there is no checkpoint of this run yet; the same command starts it again"
        raise KeyboardInterrupt(says) from None


def _state(file: Path) -> tuple[int, int] | None:
    """What changes whenever the file is replaced; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
