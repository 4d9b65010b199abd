"""POST /events: store events that are sent over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from common.errors import Fault, InvalidParameter
from common.event_models import NewEvent, StoredEvents
from routes.errors import PROBLEMS_OF_BODIES
from services.dependencies import Ingest, get_ingest, get_writer
from services.ingest.http_body import MAX_EVENTS
from services.ingest.http_event_validation import MAX_VALUES

router = APIRouter(
    tags=["events"],
    responses=PROBLEMS_OF_BODIES,
    dependencies=[Depends(get_writer)],
)


def _body() -> dict[str, Any]:
    """The OpenAPI description of the body, which FastAPI cannot derive because we parse it."""
    event = NewEvent.model_json_schema()
    several = {"type": "array", "items": event, "maxItems": MAX_EVENTS}
    lines = {"type": "string", "description": "One event per line."}
    content = {"application/json": {"anyOf": [event, several]}, "application/x-ndjson": lines}
    return {
        "description": f"One event, an array, or NDJSON: at most {MAX_EVENTS:,} events, "
        f"{MAX_VALUES:,} JSON values, 8 MB as they are sent and 16 MB decompressed; an event is "
        "at most 256 kB. `Content-Encoding` may be `gzip` or `zstd`.",
        "required": True,
        "content": {media_type: {"schema": schema} for media_type, schema in content.items()},
    }


@router.post(
    "/events",
    response_model=StoredEvents,
    response_description="All events are committed",
    openapi_extra={"requestBody": _body()},
)
async def post_events(request: Request, ingest: Annotated[Ingest, Depends(get_ingest)]) -> Response:
    """Store events: all events of the request, or none if one of them is invalid.

    Events are committed before the response. If no response arrives, repeat the request: each
    `event_id` is stored once.
    """
    if request.query_params:
        raise InvalidParameter(faults=[Fault("(unknown)", "no query parameters are allowed")])
    return await ingest()
