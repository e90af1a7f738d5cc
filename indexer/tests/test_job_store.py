import time

import pytest

from indexer.database.opening import open_store
from indexer.errors import (
    InvalidCursorError,
    JobConflictError,
    JobNotFoundError,
    TooManyJobsError,
)
from indexer.ids import new_id
from indexer.rows import jobs as job_store
from indexer.rows import replies as reply_store
from indexer.rows.jobs import MAX_ERRORS, JobError, JobStore
from indexer.rows.replies import Reply, ReplyStore
from indexer.tests.scenery import database_of


@pytest.fixture
def store(database, tmp_path):
    opened = open_store(database_of(tmp_path) or tmp_path / "gallery.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def jobs(store):
    return JobStore(store)


@pytest.fixture
def replies(store):
    return ReplyStore(store)


def submit(jobs, kind="import", *, key=None, most_waiting=100, **options):
    arguments = {"total": 3}
    return jobs.submit(
        new_id("job_"), kind, arguments, key=key, most_waiting=most_waiting, **options
    )


def at(monkeypatch, seconds):
    """Let the clock be some seconds off."""
    now = time.time_ns
    clock = type("Clock", (), {"time_ns": staticmethod(lambda: now() + int(seconds * 1e9))})
    monkeypatch.setattr(job_store, "time", clock)
    monkeypatch.setattr(reply_store, "time", clock)


def error(item):
    return JobError(item, {"code": "image_corrupt"})


def test_jobs_are_claimed_in_the_order_they_came_and_each_once(jobs):
    first, second = submit(jobs), submit(jobs)

    assert jobs.claim("lease_a").id == first.id
    assert jobs.claim("lease_b").id == second.id
    assert jobs.claim("lease_c") is None
    assert jobs.get(first.id).state == "running"
    assert (first.state, first.arguments, first.attempts) == ("queued", {"total": 3}, 0)


def test_numbers_never_fall(jobs):
    id = submit(jobs).id
    jobs.claim("a")
    seen = [
        jobs.progress(id, "a", done=done, total=total, failed=failed)
        for done, total, failed in ((0, 10, 0), (4, 10, 2), (2, 3, 1), (11, 10, 2))
    ]

    assert [record.done for record in seen] == [0, 4, 4, 11]
    assert [record.failed for record in seen] == [0, 2, 2, 2]
    assert all(record.done <= record.total for record in seen)


def test_only_who_holds_the_lease_can_write(jobs):
    id = submit(jobs).id
    jobs.claim("old")
    jobs.progress(id, "old", done=2, total=3, failed=0)
    jobs.void_leases()
    taken = jobs.claim("new")

    assert (taken.id, taken.done, taken.attempts, taken.deaths) == (id, 2, 2, 1)
    assert jobs.progress(id, "old", done=3, total=3, failed=0, errors=[error("x")]) is None
    assert not jobs.finish(id, "old", "failed")
    jobs.release(id, "old")
    assert (jobs.get(id).state, jobs.get(id).done, jobs.errors(id)) == ("running", 2, [])
    assert jobs.finish(id, "new", "succeeded", result={"created": 3})
    assert (jobs.get(id).state, jobs.get(id).result) == ("succeeded", {"created": 3})
    assert (taken.arguments, jobs.get(id).arguments) == ({"total": 3}, {})


def test_a_lease_lapses_unless_progress_renews_it(jobs, monkeypatch):
    id = submit(jobs).id
    jobs.claim("a")
    at(monkeypatch, 20)
    assert jobs.claim("b") is None
    jobs.progress(id, "a", done=1, total=3, failed=0)
    at(monkeypatch, 40)
    assert jobs.claim("b") is None
    at(monkeypatch, 60)

    assert jobs.claim("b").id == id


def test_progress_wipes_deaths_out_and_an_orderly_release_is_none(jobs):
    id = submit(jobs).id
    for _ in range(2):
        jobs.claim("a")
        jobs.void_leases()
    assert jobs.claim("b").deaths == 2
    jobs.progress(id, "b", done=0, total=3, failed=0)
    assert jobs.get(id).deaths == 2
    jobs.progress(id, "b", done=1, total=3, failed=0)
    jobs.release(id, "b")

    again = jobs.claim("c")
    assert (again.deaths, again.attempts, again.done) == (0, 4, 1)


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked(jobs):
    waiting, running, done = submit(jobs), submit(jobs), submit(jobs)
    assert jobs.cancel(waiting.id).state == "cancelled"
    assert jobs.cancel(waiting.id).state == "cancelled"
    assert jobs.claim("a").id == running.id
    asked = jobs.cancel(running.id)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    jobs.claim("b")
    jobs.finish(done.id, "b", "succeeded")

    with pytest.raises(JobConflictError):
        jobs.cancel(done.id)
    with pytest.raises(JobNotFoundError):
        jobs.cancel("job_none")


def test_at_most_a_thousand_errors_are_kept_and_an_item_once(jobs):
    id = submit(jobs).id
    jobs.claim("a")
    for start in range(0, 1200, 300):
        errors = [error(str(number)) for number in range(start, start + 300)]
        jobs.progress(id, "a", done=start, total=1200, failed=start, errors=errors)
        jobs.progress(id, "a", done=start, total=1200, failed=start, errors=errors[:5])

    assert [kept.item for kept in jobs.errors(id)] == [str(n) for n in range(MAX_ERRORS)]


def test_only_so_many_jobs_may_wait(jobs):
    for _ in range(2):
        submit(jobs, most_waiting=2)
    with pytest.raises(TooManyJobsError):
        submit(jobs, most_waiting=2)
    jobs.claim("a")

    submit(jobs, most_waiting=2)
    assert jobs.waiting() == 2


def test_a_list_is_walked_newest_first_and_filtered(jobs):
    ids = [submit(jobs, kind, key=key).id for kind in ("import", "ingest") for key in "ababa"]
    walked, cursor = [], None
    while True:
        page = jobs.page(limit=3, cursor=cursor)
        walked += [record.id for record in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert walked == ids[::-1]
    jobs.cancel(ids[4])
    assert [one.id for one in jobs.page(states=["cancelled"]).jobs] == [ids[4]]
    assert len(jobs.page(kinds=["ingest"], key="a").jobs) == 3
    with pytest.raises(InvalidCursorError):
        jobs.page(cursor="nonsense")


def test_the_job_of_another_key_is_as_if_it_were_not_there(jobs):
    id = submit(jobs, key="mine").id

    assert jobs.get(id, key="mine").id == id
    for call in (jobs.get, jobs.cancel):
        with pytest.raises(JobNotFoundError):
            call(id, key="yours")


def test_rate_and_time_left_are_those_of_the_latest_attempt(jobs, monkeypatch):
    id = submit(jobs).id
    assert (jobs.get(id).rate, jobs.get(id).eta_s) == (None, None)
    jobs.claim("a")
    jobs.progress(id, "a", done=50, total=100, failed=0)
    jobs.release(id, "a")
    jobs.claim("b")
    at(monkeypatch, 10)
    record = jobs.progress(id, "b", done=70, total=100, failed=0)

    assert record.rate == pytest.approx(2, rel=0.05)
    assert record.eta_s == pytest.approx(15, rel=0.05)


def test_a_job_and_the_answer_about_it_are_kept_together_or_not_at_all(jobs, replies):
    reply = Reply("", "k", "f", 202, {}, b"{}")
    with pytest.raises(TooManyJobsError):
        submit(jobs, most_waiting=0, reply=reply)
    assert replies.find("", "k") is None

    submit(jobs, reply=reply)
    assert replies.find("", "k") == reply


def test_an_answer_is_kept_for_a_day_for_each_key_name(replies, monkeypatch):
    mine = Reply("me", "k", "f", 201, {"location": "/x"}, b"\x00\xff")
    yours = Reply("you", "k", "g", 404, {}, b"")
    replies.store(mine)
    replies.store(yours)
    assert (replies.find("me", "k"), replies.find("you", "k")) == (mine, yours)

    at(monkeypatch, 24 * 3600 - 5)
    replies.tidy()
    assert replies.find("me", "k") == mine
    at(monkeypatch, 24 * 3600 + 5)
    assert replies.find("me", "k") is None
    newer = Reply("me", "k", "h", 200, {}, b"new")
    replies.store(newer)
    replies.tidy()
    assert replies.find("me", "k") == newer


def test_jobs_are_forgotten_a_month_after_their_end(jobs, monkeypatch):
    ended, waiting = submit(jobs), submit(jobs)
    jobs.claim("a")
    jobs.finish(ended.id, "a", "failed", problem={"code": "internal"}, errors=[error("x")])
    at(monkeypatch, 29 * 86_400)
    jobs.tidy()
    assert jobs.get(ended.id).problem == {"code": "internal"}
    at(monkeypatch, 31 * 86_400)
    jobs.tidy()

    assert [record.id for record in jobs.page().jobs] == [waiting.id]
    assert jobs.errors(ended.id) == []
