"""The routes about the index."""

from fastapi import APIRouter, Depends, Request, Response

from service.generations.schemas import GenerationRecord
from service.http.auth import authorize, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.http.fields import index_of
from service.http.idempotency import KEY_PARAMETER, JsonAnswer, KeyedRequest, fingerprint_of
from service.jobs.accepting import accept
from service.jobs.schemas import AcceptedJob
from service.running.dependencies import PartsOf
from service.upkeep.schemas import IndexRecord

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.get(
    "/index",
    summary="How is the index?",
    response_model=IndexRecord,
    openapi_extra=route_scope("search"),
)
def get_index(parts: PartsOf) -> IndexRecord:
    """How large it is, and how much of it and of the database is unused."""
    state, stats = parts.gallery.upkeep.index_state(), parts.gallery.stats()
    return IndexRecord(
        **index_of(parts.gallery.view()),
        engine=stats.engine,
        rows=state.rows,
        gone=state.gone,
        bytes=state.index_bytes,
        database_bytes=state.database_bytes,
        database_free_bytes=state.database_free_bytes,
        last_change=stats.last_change,
        index_change=stats.index_change,
        compacted_at=state.compacted_at,
        generations=[GenerationRecord.of(one) for one in parts.gallery.generations.all()],
    )


@router.post(
    "/index/compact",
    summary="Compact the index and the database",
    status_code=202,
    response_model=AcceptedJob,
    openapi_extra=route_scope("admin") | {"parameters": [KEY_PARAMETER]},
)
async def compact_index(request: Request, parts: PartsOf) -> Response:
    """A job rebuilds the index without the gaps that deletions left, and rewrites the database if
    that makes it smaller. Searches go on meanwhile, with the same results. This also happens by
    itself, once more than 1000 entries and a fifth of all are gaps.
    """

    async def accept_compaction(keyed: KeyedRequest | None) -> JsonAnswer:
        return await accept(request, parts, keyed, "compact", {})

    return await parts.idempotency.answer_once(
        request, lambda: fingerprint_of(request, []), accept_compaction
    )
