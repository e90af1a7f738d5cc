"""The route that shows what an NAE+ looks at in a person."""

from typing import Any, Protocol, cast

import anyio.to_thread
import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from indexer.records import StoredDetection
from service.http.auth import authorize, route_scope
from service.http.bodies import deadline_of, refuse_unknown_parameters, while_connected
from service.http.errors import RequestError
from service.http.openapi import FILE
from service.images.pictures import PICTURE_HEADERS, attention_png
from service.running.dependencies import PartsOf, run_in_lane
from service.running.worker import Lane

router = APIRouter(dependencies=[Depends(authorize), Depends(refuse_unknown_parameters)])


class Attentive(Protocol):
    """A detector with an NAE+ head, as far as it is used here."""

    def attention(
        self, image: NDArray[np.uint8], boxes: NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]: ...


@router.get(
    "/gallery/detections/{detection_id}/attention",
    summary="Get a picture of what the model looks at in a detection",
    response_class=Response,
    responses={200: {"content": {"image/png": {"schema": FILE}}}},
    openapi_extra=route_scope("search"),
)
async def get_attention(detection_id: str, request: Request, parts: PartsOf) -> Response:
    """A PNG as large as the crop, to lay over it: the redder and more opaque a part, the surer the
    model is that it shows a person. Only models with an NAE+ head can; others answer 409
    `no_attention`.
    """
    deadline_s = deadline_of(request, parts.settings.search_deadline_s)

    def find() -> tuple[Attentive, StoredDetection]:
        view = parts.gallery.view()
        found = parts.gallery.people.get(detection_id, view=view)
        detector = parts.detectors.of(view.generation.model)
        if not detector.card.pixel_wise:
            raise RequestError(
                "no_attention",
                f"{detector.card.name} has the head {detector.card.head}, not an NAE+ head.",
            )
        return cast(Attentive, detector), found

    detector, found = await anyio.to_thread.run_sync(find)

    def look() -> bytes:
        pixels = parts.gallery.scenes.picture(found.scene_id).pixels
        attention = detector.attention(pixels, np.array([found.box], np.float64))[0]
        return attention_png(attention, pixels.shape[:2], box=found.box)

    done = await while_connected(request, run_in_lane(parts, Lane.SEARCH, look, deadline_s))
    return Response(done.value, media_type="image/png", headers=PICTURE_HEADERS)
