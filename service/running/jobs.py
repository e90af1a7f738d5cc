"""Jobs: work that is longer than a request. A job that was acknowledged is on disk and is done,
whatever ends the process meanwhile.

One thread runs uploads, which are short, and one all other kinds, each one after the other, in the
order they came. What a crash interrupts is taken up again at the next start, or by another service
of the same gallery once the lease has lapsed; a job that ends the process MAX_DEATHS times without
getting on is given up. An orderly stop interrupts a job between two of its steps, and is not
counted.
"""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from indexer.errors import DatabaseUnavailableError, StorageFullError
from indexer.ids import new_id
from indexer.rows.audit import acting_as
from indexer.rows.jobs import LEASE_S, MAX_ERRORS, JobError, JobRecord, JobStore
from indexer.rows.replies import Reply, ReplyStore
from models.errors import PersonSearchError
from service.http.edge import logger
from service.http.errors import OverloadedError, RequestError, ShuttingDownError, problem
from service.http.metrics import Metrics
from service.running.disk import Disk
from service.running.spool import Spool
from service.running.worker import Lane, Worker

MAX_DEATHS = 5
DISK_WAIT_S = 2.0
CHECK_S = 0.25  # how often what waits looks whether it is to stop
IDLE_S = 5.0  # how often to look for jobs whose lease has lapsed
TIDY_S = 3600.0
UPLOADS = ("ingest",)  # kinds with a thread of their own
ALONE_S = 60.0
SPOOLED_S = 3600.0  # nobody takes longer from spooling a file to queueing its job
T = TypeVar("T")


class JobStoppedError(BaseException):
    """The job is to end here: it was cancelled, or the service stops and it is resumed later.

    Like asyncio.CancelledError it is no Exception, so that `except Exception` lets it pass.
    """

    def __init__(self, *, cancelled: bool) -> None:
        super().__init__("cancelled" if cancelled else "interrupted")
        self.cancelled = cancelled


class JobContext:
    """What running work sees of its job.

    Attributes:
        id: job_ and a ULID.
        arguments: JSON, as `submit` got them.
        done, failed: items that earlier attempts dealt with; 0 in the first.
        result: what earlier attempts noted as the result; {} in the first.
        record: the job when this attempt began.
        folder: where files lie that were spooled for the job.
    """

    def __init__(
        self,
        record: JobRecord,
        *,
        folder: Path,
        lease: str,
        stopping: threading.Event,
        store: JobStore,
        worker: Worker,
        disk: Disk,
        metrics: Metrics,
    ) -> None:
        self.id = record.id
        self.arguments = record.arguments
        self.done = record.done
        self.failed = record.failed
        self.result = record.result or {}
        self.record = record
        self.folder = folder
        self._lease = lease
        self._stopping = stopping
        self._store = store
        self._worker = worker
        self._disk = disk
        self._metrics = metrics
        self._errors: list[JobError] = []
        self._listed = 0

    def progress(
        self, done: int, total: int, *, failed: int = 0, result: dict[str, Any] | None = None
    ) -> None:
        """Note how far the job is, on disk, with the items that failed since the last time.

        It costs a sync of the disk: call it once per item that takes longer than that. On a full
        disk it waits for space.

        Args:
            done: items dealt with, failed ones among them; a smaller number than before is not
                noted, as when a kind of job starts over after a crash.
            result: the result so far, JSON; None leaves what was noted before.

        Raises:
            JobStoppedError: after the note, when the job is to end here.
        """
        while True:
            try:
                noted = self._store.progress(
                    self.id,
                    self._lease,
                    done=done,
                    total=total,
                    failed=failed,
                    result=result,
                    errors=self._errors,
                )
            except StorageFullError:
                self.pause(1)
                continue
            break
        self._errors = []
        if noted is None:
            raise JobStoppedError(cancelled=False)
        self._stop_if_asked(noted)

    def failed_item(self, item: str, error: PersonSearchError) -> None:
        """Note that one item failed; on disk with the next progress.

        At most MAX_ERRORS are listed, each item once; `failed` of progress counts them all.
        """
        if self._listed < MAX_ERRORS:
            self._listed += 1
            self._errors.append(JobError(item, self.problem(error)))

    def check(self) -> None:
        """
        Raises:
            JobStoppedError: the job is to end here.
        """
        self._stop_if_asked(self._store.get(self.id))

    def pause(self, seconds: float) -> None:
        """Wait; raises as `check` does, within CHECK_S."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.check()
            self._stopping.wait(min(left, CHECK_S))
        self.check()

    def infer_and_store(self, work: Callable[[], T]) -> T:
        """As `infer` does, for work that stores what it found. While the disk is full, this waits.

        Work that found the disk full is run again.
        """
        while True:
            try:
                self._disk.check()
                return self.infer(work)
            except StorageFullError:
                logger.warning("job %s waits for space on the disk", self.id)
                self.pause(DISK_WAIT_S)

    def infer(self, work: Callable[[], T]) -> T:
        """Run what needs the model, behind all searches; it should take as long as one picture.

        While too many others wait, this waits, too. Work that has started is finished, also when
        the job is to end.

        Raises:
            JobStoppedError: the work was not started.
            Whatever the work raises.
        """
        while True:
            try:
                future = self._worker.submit(Lane.INGEST, work)
            except OverloadedError:
                self.pause(CHECK_S)
            except ShuttingDownError:
                raise JobStoppedError(cancelled=False) from None
            else:
                break
        while not concurrent.futures.wait([future], timeout=CHECK_S).done:
            try:
                self.check()
            except JobStoppedError:
                if future.cancel():
                    self._worker.drop_cancelled(Lane.INGEST)
                    raise
        try:
            done = future.result()
        except ShuttingDownError:
            raise JobStoppedError(cancelled=False) from None
        self._metrics.observe_work(Lane.INGEST, queue_ms=done.queue_ms, run_ms=done.run_ms)
        return done.value

    def problem(self, error: PersonSearchError) -> dict[str, Any]:
        """The problem document of an error; the job's id stands in for a request's."""
        return problem(error, instance=f"/jobs/{self.id}", request_id=self.id)

    def take_errors(self) -> list[JobError]:
        """Take out the failed items that are not on disk yet."""
        errors, self._errors = self._errors, []
        return errors

    def _stop_if_asked(self, record: JobRecord) -> None:
        if record.cancel_requested:
            raise JobStoppedError(cancelled=True)
        if self._stopping.is_set():
            raise JobStoppedError(cancelled=False)


# Does the work, and gives the job's result, JSON. It is run again from the start after a crash, so
# doing twice what was done must do no harm; `done` and `result` of the context say how far it was.
JobKind = Callable[[JobContext], dict[str, Any]]


class JobRunner:
    """The threads that run jobs. Every method may be called from any thread.

    Attributes:
        spool: the files of jobs that have not ended.
        streams: how many clients follow a job right now; only the event loop changes it.
    """

    def __init__(
        self,
        store: JobStore,
        replies: ReplyStore,
        spool: Spool,
        worker: Worker,
        disk: Disk,
        metrics: Metrics,
        *,
        most_waiting: int,
        drain_s: float,
        shared: bool = False,
    ) -> None:
        """Call `start()` to begin.

        Args:
            worker: runs what needs the model.
            disk: of the gallery.
            shared: other services run jobs of the same gallery, with the same spool.
        """
        self.spool = spool
        self.streams = 0
        self._store = store
        self._replies = replies
        self._worker = worker
        self._disk = disk
        self._metrics = metrics
        self._kinds: Mapping[str, JobKind] = {}
        self._most_waiting = most_waiting
        self._drain_s = drain_s
        self._shared = shared
        self._stopping = threading.Event()
        self._wakes = (threading.Event(), threading.Event())
        self._one_alone = threading.Event()
        self._stop_at = 0.0
        self._tidy_at = 0.0
        self._threads: list[threading.Thread] = []

    def start(self, kinds: Mapping[str, JobKind]) -> None:
        """Clear up after the process before this one, then begin.

        Args:
            kinds: of jobs that can be run, by name.
        """
        self._kinds = kinds
        # Of a shared gallery, who holds a lease may be alive.
        if self._shared or self._store.void_leases() < 2:
            self._one_alone.set()
        self.spool.sweep(self._store.unfinished(), older_than_s=SPOOLED_S if self._shared else 0)
        for name, run, wake in zip(
            ("uploads", "jobs"), (self._run_uploads, self._run_others), self._wakes, strict=True
        ):
            thread = threading.Thread(target=run, args=[wake], name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        *,
        key: str | None,
        id: str | None = None,
        reply: Reply | None = None,
    ) -> JobRecord:
        """Queue a job; on disk when this returns, so 202 may be answered.

        Args:
            kind: one that `start` was given.
            arguments: JSON.
            key: ApiKey.owner of who asks; None without an API key.
            id: of a job whose files were spooled under it; they are deleted when this fails.
            reply: the answer, stored for repeated requests in the same transaction.

        Raises:
            TooManyJobsError: the job queue is full.
            StorageFullError
        """
        assert kind in self._kinds, kind
        id = id or new_id("job_")
        try:
            record = self._store.submit(
                id, kind, arguments, key=key, most_waiting=self._most_waiting, reply=reply
            )
        except BaseException:
            self.spool.remove(id)
            raise
        self._wake()
        return record

    def cancel(self, id: str, *, key: str | None) -> JobRecord:
        """Like JobStore.cancel; a running job ends within a second, or after one picture."""
        record = self._store.cancel(id, key=key)
        if record.ended:
            self.spool.remove(id)
        return record

    @property
    def alive(self) -> bool:
        """Whether jobs are run."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    @property
    def stopping(self) -> bool:
        """Whether the service is stopping."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask running jobs to end at their next step; begin no more."""
        if not self._stopping.is_set():
            self._stop_at = time.monotonic()
            self._stopping.set()
            self._one_alone.set()
            self._wake()

    def close(self) -> None:
        """Stop, and wait until the drain time after the stop is over.

        What has not ended by then is left to the process's end, as in a crash.
        """
        self.stop()
        for thread in self._threads:
            thread.join(max(0.0, self._stop_at + self._drain_s - time.monotonic()))

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()

    def _run_uploads(self, wake: threading.Event) -> None:
        def run_one() -> bool:
            try:
                return self._run_one(kinds=UPLOADS)
            finally:
                self._one_alone.set()

        self._run(run_one, wake)

    def _run_others(self, wake: threading.Event) -> None:
        # Where two were running when the process died, one of them may have ended it: an upload
        # goes first, alone, so that the deaths of another job are not counted as its own.
        self._one_alone.wait(ALONE_S)

        def run_one() -> bool:
            self._tidy()
            return self._run_one(but=UPLOADS)

        self._run(run_one, wake)

    def _run(self, run_one: Callable[[], bool], wake: threading.Event) -> None:
        """Run jobs until the service stops; run_one gives False when there is none."""
        while not self._stopping.is_set():
            wake.clear()
            try:
                busy = run_one()
            except StorageFullError:
                busy = False
                logger.warning("jobs wait for space on the disk")
            except Exception:  # of the database, say; this thread must live on
                busy = False
                logger.exception("jobs: trying again soon")
            if not busy:
                wake.wait(IDLE_S)

    def _run_one(self, *, kinds: Collection[str] = (), but: Collection[str] = ()) -> bool:
        """Run the next job, as claim takes one; False when there is none."""
        lease = new_id("lease_")
        record = self._store.claim(lease, kinds=kinds, but=but)
        if record is None:
            return False
        logger.info("job %s (%s): attempt %d", record.id, record.kind, record.attempts)
        context = JobContext(
            record,
            folder=self.spool.folder(record.id),
            lease=lease,
            stopping=self._stopping,
            store=self._store,
            worker=self._worker,
            disk=self._disk,
            metrics=self._metrics,
        )
        result, failure = None, None
        try:
            if record.deaths >= MAX_DEATHS:
                raise RequestError(
                    "job_abandoned", f"The service ended {record.deaths} times while it ran."
                )
            context.check()
            self.spool.fetch(record.id)
            with acting_as(record.key_name), self._renewing(record.id, lease):
                result, state = self._kinds[record.kind](context), "succeeded"
        except JobStoppedError as stopped:
            if not stopped.cancelled:
                self._store.release(record.id, lease)
                return True
            state = "cancelled"
        except DatabaseUnavailableError as error:  # no fault of the job: it goes on later
            logger.warning("job %s waits: %s", record.id, error)
            self._give_back(record.id, lease)
            return False
        except PersonSearchError as error:
            logger.warning("job %s: %s", record.id, error)
            state, failure = "failed", context.problem(error)
        except Exception:
            logger.exception("job %s failed", record.id)
            state, failure = "failed", context.problem(RequestError("internal", ""))
        errors = context.take_errors()
        if self._store.finish(
            record.id, lease, state, result=result, problem=failure, errors=errors
        ):
            logger.info("job %s %s", record.id, state)
            self.spool.remove(record.id)
        return True

    def _give_back(self, id: str, lease: str) -> None:
        """Release a job as soon as the database takes it, so that this counts as no death."""
        while True:
            try:
                self._store.release(id, lease)
            except DatabaseUnavailableError:
                if self._stopping.wait(CHECK_S):
                    return  # the lease lapses
            else:
                return

    @contextmanager
    def _renewing(self, id: str, lease: str) -> Iterator[None]:
        """Renew the lease while a step takes long: only the lease of a dead process lapses."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(LEASE_S / 3):
                try:
                    self._store.renew(id, lease)
                except PersonSearchError as error:
                    logger.warning("job %s: its lease is not renewed: %s", id, error)

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _tidy(self) -> None:
        """Once an hour, delete jobs and replies that are past their time."""
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_S
            self._store.tidy()
            self._replies.tidy()
