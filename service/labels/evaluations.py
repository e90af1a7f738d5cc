"""Evaluations of the gallery: the work of a job of kind "evaluate"."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.errors import DetectionNotFoundError, SceneNotFoundError
from indexer.evaluation.evaluation import Question, evaluate, questions_of_labels
from indexer.gallery.gallery import Gallery
from indexer.index.live import View
from indexer.records import Crowd
from indexer.search.query import PersonQuery
from models.errors import BoxError
from service.http.errors import RequestError
from service.http.fields import Box, index_of
from service.http.garbage import not_collected
from service.labels.schemas import (
    EvaluationProtocol,
    EvaluationRequest,
    EvaluationResult,
    ProtocolQuery,
    evaluation_fields,
)
from service.running.jobs import JobContext
from service.running.parts import Parts

PROTOCOL = "protocol.json"  # in the spool
MOST_PEOPLE = 250_000
"""Most detections that are searched: with 256 numbers each, about half a GiB of memory."""


def evaluate_gallery(parts: Parts, context: JobContext) -> dict[str, Any]:
    """Measure how well people are found again. It changes nothing, so it may run again.

    Arguments: `protocol`, whether one is in the spool; else `request`, an EvaluationRequest.
    Result: an EvaluationResult.

    Raises:
        NothingToEvaluateError, CrowdTooLargeError
        SceneNotFoundError, DetectionNotFoundError: the protocol names what is not there.
        BoxError, RequestError: it contradicts itself or the pictures.
    """
    request = EvaluationRequest.model_validate(context.arguments.get("request", {}))
    protocol = _spooled(context.folder / PROTOCOL) if context.arguments["protocol"] else None
    if protocol is not None:
        result = _by_protocol(parts, context, protocol)
    else:
        result = _by_labels(parts.gallery, context, left_out=request.unlabelled == "left_out")
    return result.model_dump(mode="json")


def _spooled(path: Path) -> EvaluationProtocol:
    try:
        with not_collected():
            return EvaluationProtocol.model_validate_json(path.read_bytes())
    except FileNotFoundError:  # as in a copy of the gallery that was made without the spool
        raise RequestError("file_unreadable", "The protocol is not there any more.") from None


def _by_labels(gallery: Gallery, context: JobContext, *, left_out: bool) -> EvaluationResult:
    view = gallery.view()
    if left_out:
        crowd = gallery.people.labelled(view=view)
    else:
        crowd = gallery.people.everybody(most=MOST_PEOPLE, view=view)
    questions = questions_of_labels(crowd)
    measured = evaluate(crowd, questions, progress=context.progress)
    return EvaluationResult(
        **index_of(view),
        labels_sha256=crowd.labels_sha256,
        protocol_sha256=None,
        unlabelled="left_out" if left_out else "wrong",
        level="detection",
        images=len(crowd.scenes),
        detections=sum(map(len, crowd.people)),
        **evaluation_fields(measured),
    )


def _by_protocol(
    parts: Parts, context: JobContext, protocol: EvaluationProtocol
) -> EvaluationResult:
    gallery = parts.gallery
    view = gallery.view()
    digest = hashlib.sha256()
    for piece in protocol.text():
        digest.update(piece)
    shown = [
        query.image_id or gallery.people.get(query.detection_id or "", view=view).scene_id
        for query in protocol.queries
    ]
    held = {known.image_id for query in protocol.queries for known in query.holds}
    wanted = None if protocol.images is None else {*protocol.images, *shown, *held}
    crowd = gallery.people.everybody(scene_ids=wanted, most=MOST_PEOPLE, view=view)
    place_of = {scene.id: place for place, scene in enumerate(crowd.scenes)}
    listed = list(place_of) if protocol.images is None else protocol.images
    searched = np.unique([_place(place_of, id) for id in listed])
    questions = []
    total = 2 * len(protocol.queries)
    for number, (query, scene_id) in enumerate(zip(protocol.queries, shown, strict=True)):
        if query.box is not None:  # what is stored needs no model, and takes no time
            context.progress(number, total)
        scene = _place(place_of, scene_id)
        box, embedding = _person(parts, context, view, crowd, scene, query)
        pointer = f"/protocol/queries/{number}"
        holds = _holds(query, place_of, {*searched.tolist()} - {scene}, pointer)
        questions.append(Question(scene, box, embedding, query.person or f"\0{number}", holds))
    measured = evaluate(
        crowd,
        questions,
        searched=searched,
        boxes_known=protocol.level == "detection",
        progress=lambda done, _: context.progress(len(questions) + done, total),
    )
    return EvaluationResult(
        **index_of(view),
        labels_sha256=None,
        protocol_sha256=digest.hexdigest(),
        unlabelled=None,
        level=protocol.level,
        images=len(searched),
        detections=sum(len(crowd.people[place]) for place in searched.tolist()),
        **evaluation_fields(measured),
    )


def _person(
    parts: Parts, context: JobContext, view: View, crowd: Crowd, scene: int, query: ProtocolQuery
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Box [4] and embedding [D] of a query's person."""
    if query.detection_id is not None:
        if query.detection_id not in crowd.ids[scene]:  # removed meanwhile
            raise DetectionNotFoundError(f"there is no detection {query.detection_id}")
        place = crowd.ids[scene].index(query.detection_id)
        return crowd.people[scene].boxes[place], crowd.people[scene].embeddings[place]
    assert query.box is not None
    meant = PersonQuery(scene_id=query.image_id, box=query.box.sides)
    (person,) = context.infer(lambda: parts.search.describe([meant]))
    if person.view.generation != view.generation:
        raise RequestError("generation_gone", "Another model answers since the evaluation began.")
    return _array(query.box), person.embedding


def _holds(
    query: ProtocolQuery, place_of: dict[str, int], searched: set[int], pointer: str
) -> list[tuple[int, NDArray[np.float32] | None]]:
    """Where a query's person is to be found, each place once."""
    holds: dict[tuple[int, bytes], NDArray[np.float32] | None] = {}
    for number, known in enumerate(query.holds):
        scene = _place(place_of, known.image_id)
        if scene not in searched:
            raise RequestError(
                "validation_failed",
                f"{pointer}/holds/{number}/image_id: this image is not searched: it is the query's "
                "own, or not listed in images.",
            )
        box = None if known.box is None else _array(known.box)
        holds[scene, b"" if box is None else box.tobytes()] = box
    return [(scene, box) for (scene, _), box in holds.items()]


def _place(place_of: dict[str, int], scene_id: str) -> int:
    if scene_id not in place_of:
        raise SceneNotFoundError(f"there is no image {scene_id}")
    return place_of[scene_id]


def _array(box: Box) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        sides = np.array(box.sides, np.float32)
    if not (np.isfinite(sides).all() and sides[0] < sides[2] and sides[1] < sides[3]):
        raise BoxError("A box of the protocol has no area in single precision.")
    return sides
