import asyncio
import threading
import time

import pytest

from service.http.errors import DeadlineError, OverloadedError, ShuttingDownError
from service.running.worker import Lane, Worker


@pytest.fixture
def worker():
    worker = Worker(search_max=2, ingest_max=3)
    yield worker
    worker.close(10)


@pytest.fixture
def hold(worker):
    """Keeps the worker busy until the returned event is set."""
    go, running = threading.Event(), threading.Event()

    def work():
        running.set()
        assert go.wait(10)

    go.futures = [worker.submit(Lane.INGEST, work)]
    running.wait()
    yield go
    go.set()


def test_work_runs_one_by_one_on_one_thread_off_the_event_loop(worker):
    async def all_of_them():
        return await asyncio.gather(
            *(worker.run(Lane.INGEST, threading.get_ident, deadline_s=5) for _ in range(3))
        )

    done = asyncio.run(all_of_them())
    assert len({each.value for each in done}) == 1
    assert done[0].value != threading.get_ident()
    assert all(each.queue_ms >= 0 and each.run_ms >= 0 for each in done)


def test_searches_go_first_and_each_lane_is_in_order(worker, hold):
    order = []
    futures = [
        worker.submit(lane, lambda name=name: order.append(name))
        for lane, name in (
            (Lane.INGEST, "a"), (Lane.SEARCH, "1"), (Lane.INGEST, "b"), (Lane.SEARCH, "2"),
        )
    ]  # fmt: skip
    hold.set()
    for future in futures:
        future.result(5)

    assert order == ["1", "2", "a", "b"]


def test_a_full_lane_refuses_further_work_and_leaves_the_other_open(worker, hold):
    for _ in range(2):
        worker.submit(Lane.SEARCH, int)

    with pytest.raises(OverloadedError):
        worker.submit(Lane.SEARCH, int)
    worker.submit(Lane.INGEST, int)


def test_an_error_goes_to_who_waits_and_the_worker_lives_on(worker):
    async def fail_then_work():
        with pytest.raises(ZeroDivisionError):
            await worker.run(Lane.SEARCH, lambda: 1 / 0, deadline_s=5)
        with pytest.raises(TimeoutError):
            await worker.run(Lane.SEARCH, _time_out, deadline_s=5)
        return await worker.run(Lane.SEARCH, lambda: 7, deadline_s=5)

    assert asyncio.run(fail_then_work()).value == 7


def _time_out():
    raise TimeoutError


def test_work_that_is_not_done_in_time_is_dropped(worker, hold):
    ran = []

    async def hurry():
        with pytest.raises(DeadlineError):
            await worker.run(Lane.SEARCH, lambda: ran.append(1), deadline_s=0.05)

    asyncio.run(hurry())
    assert worker.waiting(Lane.SEARCH) == 0
    hold.set()
    worker.close(10)
    assert ran == []


def test_a_cancelled_wait_gives_its_place_back(worker, hold):
    async def give_up():
        task = asyncio.create_task(worker.run(Lane.SEARCH, int, deadline_s=5))
        await asyncio.sleep(0.02)
        assert worker.waiting(Lane.SEARCH) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert worker.waiting(Lane.SEARCH) == 0


def test_closing_finishes_what_runs_and_refuses_what_waits(worker, hold):
    waiting = worker.submit(Lane.INGEST, int)
    threading.Timer(0.05, hold.set).start()
    started = time.monotonic()
    worker.close(10)

    assert time.monotonic() - started < 5
    with pytest.raises(ShuttingDownError):
        waiting.result(0)
    with pytest.raises(ShuttingDownError):
        worker.submit(Lane.SEARCH, int)
    assert not worker.alive


def test_work_that_does_not_end_is_told_and_given_up_at_the_end(worker, hold):
    time.sleep(0.05)

    assert worker.busy_s >= 0.05
    (running,) = hold.futures
    worker.abandon()
    with pytest.raises(ShuttingDownError):
        running.result(0)
    began = time.monotonic()
    worker.close(0.05)
    assert time.monotonic() - began < 5
    hold.set()
    worker.close(10)
    assert worker.busy_s == 0
