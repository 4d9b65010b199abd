"""Segment's tracking API, so that its SDKs can send here with another host."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from common.event_models import StoredEvents
from routes.errors import PROBLEMS_OF_BODIES
from services.dependencies import get_ingest, get_writer, refuse_query
from services.ingest.body_formats import SEGMENT_BATCH, BodyFormat, segment_call
from services.ingest.http_body import MAX_EVENTS
from services.ingest.ingest_service import Ingest
from services.ingest.segment import CALLS

router = APIRouter(
    prefix="/v1",
    tags=["segment"],
    responses=PROBLEMS_OF_BODIES,
    dependencies=[Depends(get_writer), Depends(refuse_query)],
)

_CALL = {
    "type": "object",
    "properties": {
        "messageId": {"type": "string", "description": "Stored once, whatever its form."},
        "timestamp": {"type": "string", "format": "date-time", "description": "Default: now."},
        "userId": {"type": ["string", "integer", "null"]},
        "anonymousId": {
            "type": ["string", "integer", "null"],
            "description": "The user if there is no `userId`.",
        },
        "event": {"type": "string", "description": "Of `track`: the name of the event."},
        "properties": {"type": "object"},
        "traits": {"type": "object", "description": "Of `identify` and `group`."},
    },
}
_BATCH = {
    "type": "object",
    "required": ["batch"],
    "properties": {
        "batch": {
            "type": "array",
            "maxItems": MAX_EVENTS,
            "items": {**_CALL, "required": ["type"]},
            "description": f"Calls, each with its `type`: {', '.join(CALLS)}.",
        }
    },
}


def _add(name: str, body_format: BodyFormat, schema: dict[str, Any], description: str) -> None:
    """Add the route of a call."""

    async def post(ingest: Annotated[Ingest, Depends(get_ingest)]) -> Response:
        return await ingest(body_format)

    router.add_api_route(
        f"/{name}",
        post,
        methods=["POST"],
        name=f"post_segment_{name}",
        summary=f"Segment: {name}",
        description=description,
        response_model=StoredEvents,
        response_description="All events are committed",
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
        },
    )


_add(
    "batch",
    SEGMENT_BATCH,
    _BATCH,
    "Store several calls of Segment's API: all of the request, or none if one of them is invalid.",
)
for _call in CALLS:
    _add(_call, segment_call(_call), _CALL, f"Store one `{_call}` of Segment's API as an event.")
