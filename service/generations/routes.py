"""The routes about models, and about the generations of the index that they make."""

from dataclasses import asdict
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response

from indexer.errors import GenerationActiveError, GenerationBuildingError
from indexer.evaluation.comparison import check_labels
from indexer.records import GalleryModel
from service.generations.schemas import ModelList, ModelRecord, ReindexQuery
from service.http.auth import authorize, route_scope
from service.http.bodies import refuse_unknown_parameters
from service.http.errors import RequestError
from service.http.idempotency import KEY_PARAMETER, JsonAnswer, KeyedRequest, fingerprint_of
from service.jobs.accepting import accept
from service.jobs.schemas import AcceptedJob
from service.running.dependencies import PartsOf
from service.running.parts import Parts

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


@router.get(
    "/models",
    summary="List models",
    response_model=ModelList,
    openapi_extra=route_scope("search"),
)
def list_models(parts: PartsOf) -> ModelList:
    """Those that ship with the service, the one in the settings, and those in the models
    directory.
    """
    counts = {one.generation.model.fingerprint: one for one in parts.gallery.generations.all()}
    return ModelList(
        items=[
            ModelRecord.of(known, counts.get(known.card.fingerprint))
            for known in parts.detectors.known()
        ]
    )


@router.post(
    "/models/{name}/reindex",
    summary="Change the model",
    status_code=202,
    response_model=AcceptedJob,
    openapi_extra=route_scope("admin") | {"parameters": [KEY_PARAMETER]},
)
async def reindex_with(
    name: str, request: Request, query: Annotated[ReindexQuery, Query()], parts: PartsOf
) -> Response:
    """A job indexes all images with the new model while the old one keeps answering; new images go
    into both. When all are indexed, searches switch to the new model in one step. The old index is
    kept, so that you can go back: `POST /index/generations/{generation_id}/activate`. If a job was
    cancelled or failed, the next one continues where it stopped.

    With `min_map_ratio`, both models are first measured on the labelled people. If the new one is
    worse than that, the job fails with `generation_worse`, searches stay with the old model, and
    the new generation is kept.
    """
    if query.min_map_ratio is not None and query.activate == "manual":
        raise RequestError("validation_failed", "/query: min_map_ratio goes with activate=auto.")

    async def accept_reindex(keyed: KeyedRequest | None) -> JsonAnswer:
        known = await anyio.to_thread.run_sync(parts.detectors.find, name)
        activate = query.activate == "auto"
        ratio = query.min_map_ratio
        if ratio is not None:
            await anyio.to_thread.run_sync(_check_labels, parts)
        return await _change_model(
            request,
            parts,
            keyed,
            known.of_gallery,
            activate=activate,
            min_map_ratio=ratio,
            skip_unreadable=query.skip_unreadable,
        )

    return await parts.idempotency.answer_once(
        request, lambda: fingerprint_of(request, []), accept_reindex
    )


@router.post(
    "/index/generations/{generation_id}/activate",
    summary="Let a generation answer",
    status_code=202,
    response_model=AcceptedJob,
    openapi_extra=route_scope("admin") | {"parameters": [KEY_PARAMETER]},
)
async def activate_generation(generation_id: str, request: Request, parts: PartsOf) -> Response:
    """Use it to go back to an earlier model. A job indexes the images that it lacks, then searches
    switch to it in one step. It answers as it did before, bit for bit.
    """

    async def accept_activation(keyed: KeyedRequest | None) -> JsonAnswer:
        found = await anyio.to_thread.run_sync(parts.gallery.generations.get, generation_id)
        return await _change_model(request, parts, keyed, found.model, activate=True)

    return await parts.idempotency.answer_once(
        request, lambda: fingerprint_of(request, []), accept_activation
    )


@router.delete(
    "/index/generations/{generation_id}",
    summary="Delete a generation",
    status_code=204,
    openapi_extra=route_scope("admin"),
)
def delete_generation(generation_id: str, parts: PartsOf) -> None:
    """The active generation, and one that is being built, cannot be deleted. The images stay."""
    if parts.gallery.generations.get(generation_id).state == "building" and _unfinished(parts):
        raise GenerationBuildingError(f"{generation_id} is being built; cancel its job first")
    parts.gallery.generations.delete(generation_id)


async def _change_model(
    request: Request,
    parts: Parts,
    keyed: KeyedRequest | None,
    model: GalleryModel,
    *,
    activate: bool,
    min_map_ratio: float | None = None,
    skip_unreadable: bool = False,
) -> JsonAnswer:
    def check() -> None:
        parts.disk.check()
        if model.fingerprint == parts.gallery.model.fingerprint:
            raise GenerationActiveError(f"{model.name} answers already")
        if _unfinished(parts):
            raise GenerationBuildingError("A job of this kind is not done yet; see GET /jobs")

    await anyio.to_thread.run_sync(check)
    arguments = {
        "model": asdict(model),
        "activate": activate,
        "min_map_ratio": min_map_ratio,
        "skip_unreadable": skip_unreadable,
    }
    return await accept(request, parts, keyed, "reindex", arguments)


def _check_labels(parts: Parts) -> None:
    """
    Raises:
        TooFewLabelsError: models cannot be compared, which the job would only find out at its end.
    """
    gallery = parts.gallery
    check_labels(
        *(gallery.people.labelled(generation=one.generation) for one in gallery.generations.all())
    )


def _unfinished(parts: Parts) -> bool:
    waiting = parts.gallery.jobs.page(limit=1, states=("queued", "running"), kinds=("reindex",))
    return bool(waiting.jobs)
