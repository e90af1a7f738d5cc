"""Answering a request with a job: 202, once the job is on disk."""

from collections.abc import Mapping
from typing import Any, BinaryIO

import anyio.to_thread
from fastapi import Request

from indexer.ids import new_id
from service.http.auth import key_owner
from service.http.idempotency import JsonAnswer, KeyedRequest
from service.jobs.schemas import AcceptedJob
from service.running.parts import Parts


async def accept(
    request: Request,
    parts: Parts,
    keyed: KeyedRequest | None,
    kind: str,
    arguments: Mapping[str, Any],
    *,
    files: Mapping[str, BinaryIO] | None = None,
    more: Mapping[str, str] | None = None,
) -> JsonAnswer:
    """Queue a job for a request.

    Args:
        keyed: the answer is stored under its Idempotency-Key, in the transaction of the job.
        arguments: JSON.
        files: by name, spooled for the job.
        more: further fields of the answer.

    Raises:
        TooManyJobsError, StorageFullError, GalleryError: there is no job.
    """
    job_id = new_id("job_")
    answer = JsonAnswer(
        202,
        AcceptedJob(job_id=job_id, state="queued").model_dump(mode="json") | dict(more or {}),
        {"Location": f"/jobs/{job_id}"},
        stored=True,
    )
    reply = None if keyed is None else keyed.reply(answer.response())
    key = key_owner(request)

    def submit() -> None:
        if files is not None:
            parts.jobs.spool.store(job_id, files)
        parts.jobs.submit(kind, arguments, key=key, id=job_id, reply=reply)

    await anyio.to_thread.run_sync(submit)
    return answer
