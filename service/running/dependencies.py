"""What routes get from the running service."""

from collections.abc import Callable
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from service.http.errors import too_many
from service.running.parts import Parts
from service.running.worker import Done, Lane

T = TypeVar("T")


def the_parts(request: Request) -> Parts:
    """The parts of the running service."""
    return cast(Parts, request.app.state.parts)


PartsOf = Annotated[Parts, Depends(the_parts)]


async def run_in_lane(
    parts: Parts, lane: Lane, work: Callable[[], T], deadline_s: float
) -> Done[T]:
    """Run work on the inference thread, and count its times."""
    done = await parts.worker.run(lane, work, deadline_s=deadline_s)
    parts.metrics.observe_work(lane, queue_ms=done.queue_ms, run_ms=done.run_ms)
    return done


def check_limit(limit: int, parts: Parts) -> None:
    """Refuse a page of more items than a setting allows.

    Raises:
        RequestError: validation_failed.
    """
    most = parts.settings.page_max_items
    if limit > most:
        raise too_many("/query/limit", most)
