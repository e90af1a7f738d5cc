"""What a run tells: a log, TensorBoard and metrics.jsonl."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from service.train.evaluation import MetricsFile, in_words

log = logging.getLogger("service.train")


class Records:
    """What the first process writes down."""

    def __init__(
        self,
        scalars: SummaryWriter,
        metrics: MetricsFile,
        *,
        total: int,
        every: int,
        batch_size: int,
    ) -> None:
        self._scalars = scalars
        self._metrics = metrics
        self._total = total
        self._every = every
        self._batch_size = batch_size
        self._started = self._told = time.monotonic()
        self._sums: dict[str, float] = {}
        self._count = 0

    def step(
        self, done: int, *, epoch: int, rate: float, losses: dict[str, float], norm: float
    ) -> None:
        """Take a step's losses, and now and then tell their means."""
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        if done % self._every and done != self._total:
            return
        means = {name: value / self._count for name, value in self._sums.items()}
        now = time.monotonic()
        scenes_per_s = self._count * self._batch_size / (now - self._told)
        self._sums, self._count, self._told = {}, 0, now
        for name, value in means.items():
            self._scalars.add_scalar(f"train/{name}", value, done)
        self._scalars.add_scalar("train/lr", rate, done)
        self._scalars.add_scalar("train/grad_norm", norm, done)
        self._scalars.add_scalar("train/scenes_per_s", scenes_per_s, done)
        log.info(
            "epoch %d step %d/%d lr %.5f %s grad %.1f, %.2f scenes/s, %.0f s",
            epoch + 1, done, self._total, rate,
            " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in means.items()),
            norm, scenes_per_s, now - self._started,
        )  # fmt: skip

    def evaluated(self, done: int) -> bool:
        """Whether an evaluation after this many steps is written down."""
        return self._metrics.last == done

    def evaluation(
        self, done: int, *, epochs: int, of: str, on: str, metrics: dict[str, Any]
    ) -> None:
        """Tell an evaluation."""
        log.info("after epoch %d, the %s on %s: %s", epochs, of, on, in_words(metrics))
        for part, numbers in metrics.items():
            for name, value in (numbers or {}).items():
                self._scalars.add_scalar(f"{part}/{name}", value, done)
        self._scalars.flush()
        self._told = time.monotonic()
        self._metrics.add(steps=done, epochs=epochs, of=of, on=on, metrics=metrics)


@contextmanager
def opened(out: Path, *, done: int, total: int, every: int, batch_size: int) -> Iterator[Records]:
    """The records of a run in its directory.

    Args:
        done: steps; what was told of later ones goes.
        total: of the run.
        every: steps whose mean losses are told.
        batch_size: scenes of a step, of all processes together.
    """
    with SummaryWriter(str(out / "tensorboard"), purge_step=done + 1) as scalars:
        metrics = MetricsFile(out / "metrics.jsonl", done=done)
        yield Records(scalars, metrics, total=total, every=every, batch_size=batch_size)
