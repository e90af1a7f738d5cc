"""From the queries of a request to the people whom the gallery looks for."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import BinaryIO

from indexer.search.query import PersonQuery
from service.http.errors import invalid_at
from service.http.long_texts import decode_base64
from service.search.schemas import Query


def person_queries(queries: Sequence[Query], uploads: Sequence[BinaryIO]) -> list[PersonQuery]:
    """The people looked for; without `queries`, each upload is one person's crop.

    Args:
        uploads: the picture files that `Query.image` counts.

    Raises:
        RequestError: a query names no picture that is there, or an upload is named by no query.
        Reading a query raises one, too, where its picture is not base64.
    """
    queries = queries or [Query(image=number, crop=True) for number in range(len(uploads))]
    if not queries:
        raise invalid_at("/queries", "missing", "send an image part, or queries")
    for number, query in enumerate(queries):
        if query.image is not None and query.image >= len(uploads):
            raise invalid_at(
                f"/queries/{number}/image", "no_such_part", f"{len(uploads)} image parts were sent"
            )
    if len({query.image for query in queries} - {None}) < len(uploads):
        raise invalid_at("/queries", "unused_image", "an image part is named by no query")
    return [_person_query(query, number, uploads) for number, query in enumerate(queries)]


def check_have_scenes(queries: Sequence[PersonQuery]) -> None:
    """Refuse crops where the people around the one looked for are needed.

    Raises:
        RequestError: a query is a crop.
    """
    for number, query in enumerate(queries):
        if query.crop:
            raise invalid_at(
                "/rerank/method",
                "no_scene",
                f"cbgm needs the people around the one looked for, and query {number} is a crop; "
                "send its scene with a box, or use k_reciprocal",
            )


def _person_query(query: Query, number: int, uploads: Sequence[BinaryIO]) -> PersonQuery:
    read: Callable[[], bytes] | None = None
    if query.image is not None:
        read = partial(_upload, uploads[query.image])
    elif query.image_base64 is not None:
        read = partial(_decoded, query.image_base64, number)
    return PersonQuery(
        read=read,
        scene_id=query.image_id,
        detection_id=query.detection_id,
        box=None if query.box is None else query.box.sides,
        crop=query.crop,
    )


def _upload(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _decoded(text: str, number: int) -> bytes:
    try:
        return decode_base64(text)
    except ValueError:
        raise invalid_at(
            f"/queries/{number}/image_base64", "base64", "must be standard base64"
        ) from None
