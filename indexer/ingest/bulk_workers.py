"""The workers of a bulk run: processes of this machine, or actors of Ray."""

import multiprocessing
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from indexer.errors import GalleryError
from models.command import without_ctrl_c
from models.packages import how_to_install

Work = Callable[[Any], None]


class WorkerLostError(Exception):
    """A worker died before its job was done; another one may do it."""


class Pool(Protocol):
    """Workers, each with one thing to do at a time.

    A worker's first job is None: it makes its work, which loads a model. Errors of its work are
    raised by result.
    """

    size: int

    def start(self) -> Any:
        """A new worker."""

    def submit(self, worker: Any, job: Any) -> Any:
        """Give a worker a job; returns a handle for wait and result."""

    def wait(self, jobs: Collection[Any], timeout_s: float) -> Collection[Any]:
        """The jobs that are done; empty when none was done in time."""

    def result(self, job: Any) -> None:
        """
        Raises:
            WorkerLostError: the job's worker died.
            Exception: what the work raised.
        """

    def close(self) -> None:
        """End all workers, whatever they do."""


class Processes:
    """A Pool of processes of this machine."""

    def __init__(self, size: int, make_work: Callable[[], Work], *, threads: int = 1) -> None:
        """
        Args:
            make_work: called in each worker; it is pickled.
            threads: for NumPy in each worker.
        """
        self.size = size
        self._make_work = make_work
        self._threads = threads
        self._processes: dict[Connection, BaseProcess] = {}

    def start(self) -> Connection:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(theirs, self._make_work), daemon=True)
        with without_ctrl_c(), _environment({"OMP_NUM_THREADS": str(self._threads)}):
            process.start()
        theirs.close()  # so that the worker's death is the end of the file
        self._processes[ours] = process
        return ours

    def submit(self, worker: Connection, job: Any) -> Connection:
        with suppress(OSError):  # the worker is dead; result will say so
            worker.send(job)
        return worker

    def wait(self, jobs: Collection[Connection], timeout_s: float) -> Collection[Any]:
        return wait(jobs, timeout_s)

    def result(self, job: Connection) -> None:
        try:
            error = job.recv()
        except (EOFError, OSError) as lost:
            process = self._processes.pop(job)
            process.join()
            job.close()
            raise WorkerLostError(f"a worker ended with exit code {process.exitcode}") from lost
        if error is not None:
            raise error

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        for connection, process in self._processes.items():
            process.join()
            connection.close()
        self._processes.clear()


class RayActors:
    """A Pool of actors on all machines of a Ray cluster; all see the files under the same paths.

    Ray restarts nothing: its jobs would wait for ever for machines that do not come back. Here, the
    other workers do them.
    """

    def __init__(
        self,
        size: int,
        make_work: Callable[[], Work],
        *,
        address: str | None,
        threads: int = 1,
        gpus: float = 0,
    ) -> None:
        """
        Args:
            address: "HOST:PORT" of a cluster; None starts one here, for as long as this Pool lives.
            threads: cores of each worker.
            gpus: GPUs, or a share of one, of each worker.

        Raises:
            GalleryError: Ray is not installed.
        """
        # Otherwise Ray reports usage to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray  # only who asks for Ray needs to have it
        except ImportError:
            raise GalleryError(f"--ray needs Ray: {how_to_install('ray')}") from None
        self._ray = ray
        self.size = size
        self._make_work = make_work
        here = {"num_cpus": size * threads, "include_dashboard": False}
        ray.init(address=address or "local", log_to_driver=False, **({} if address else here))
        options = {"num_cpus": threads, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor = ray.remote(**options)(_Actor)

    def start(self) -> Any:
        return self._actor.remote(self._make_work)

    def submit(self, worker: Any, job: Any) -> Any:
        return worker.do.remote(job)

    def wait(self, jobs: Collection[Any], timeout_s: float) -> Collection[Any]:
        done, _ = self._ray.wait(list(jobs), num_returns=1, timeout=timeout_s)
        found: list[Any] = done
        return found

    def result(self, job: Any) -> None:
        try:
            error = self._ray.get(job)
        except self._ray.exceptions.RayActorError as lost:
            raise WorkerLostError(str(lost)) from lost
        if error is not None:
            raise error

    def close(self) -> None:
        self._ray.shutdown()


class _Actor:
    def __init__(self, make_work: Callable[[], Work]) -> None:
        self._make_work = make_work
        self._work: Work | None = None

    def do(self, job: Any) -> Exception | None:
        try:
            if self._work is None:
                self._work = self._make_work()
            if job is not None:
                self._work(job)
        except Exception as error:  # whoever gave the job raises it
            return error
        return None


def _serve(connection: Connection, make_work: Callable[[], Work]) -> None:
    actor = _Actor(make_work)
    with suppress(EOFError, OSError, KeyboardInterrupt):  # the process that gave jobs is gone
        while True:
            connection.send(actor.do(connection.recv()))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
