"""Segment's tracking API, so that its SDKs can send here with another host."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.routing import APIRoute

from common.event_models import StoredCalls, StoredEvents
from routes.errors import PROBLEMS_OF_BODIES
from services.dependencies import get_segment_ingest, refuse_query
from services.ingest.body_formats import SEGMENT_BATCH, BodyFormat, segment_call
from services.ingest.http_body import MAX_EVENTS
from services.ingest.ingest_service import Ingest
from services.ingest.segment import CALLS, Call

router = APIRouter(
    prefix="/v1",
    tags=["segment"],
    responses=PROBLEMS_OF_BODIES,
    dependencies=[Depends(refuse_query)],
)

_KEY = {
    "type": "string",
    "description": "The API key, if it is not in the header `Authorization`.",
}
_CALL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "messageId": {"type": "string", "description": "Stored once, whatever its form."},
        "timestamp": {
            "type": "string",
            "format": "date-time",
            "description": "Default: `originalTimestamp`, or else now.",
        },
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
_SINGLE = {**_CALL, "properties": {**_CALL["properties"], "writeKey": _KEY}}
_BATCH = {
    "type": "object",
    "required": ["batch"],
    "properties": {
        "batch": {
            "type": "array",
            "maxItems": MAX_EVENTS,
            "items": {**_CALL, "required": ["type"]},
            "description": f"Calls, each with its `type`: {', '.join(CALLS)}.",
        },
        "writeKey": _KEY,
    },
}
_SHORT_NAMES: Mapping[Call, str] = {call: call[0] for call in CALLS}
"""The paths of analytics.js."""


def _add(
    name: str, body_format: BodyFormat, schema: dict[str, Any], text: str, model: type[StoredEvents]
) -> None:
    """Add the route of a call."""

    async def post(ingest: Annotated[Ingest, Depends(get_segment_ingest)]) -> Response:
        return await ingest(body_format)

    content = {"application/json": {"schema": schema}, "text/plain": {"schema": {"type": "string"}}}
    router.add_api_route(
        f"/{name}",
        post,
        methods=["POST"],
        name=f"post_segment_{name}",
        summary=f"Segment: {name}",
        description=text,
        response_model=model,
        response_description="All valid events are committed",
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )


for _name in ("batch", "b"):
    _add(
        _name,
        SEGMENT_BATCH,
        _BATCH,
        "Store several calls of Segment's API. Invalid calls are not stored, and `errors` names "
        "them. If no call is valid, the response is a 422.",
        StoredCalls,
    )
for _call in CALLS:
    for _name in (_call, _SHORT_NAMES[_call]):
        _text = f"Store one `{_call}` of Segment's API as an event."
        _add(_name, segment_call(_call), _SINGLE, _text, StoredEvents)
PATHS = frozenset(route.path for route in router.routes if isinstance(route, APIRoute))
