"""POST /events and /events/browser: store events that are sent over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from common.event_models import NewEvent, StoredEvents
from routes.errors import PROBLEMS_OF_BODIES
from services.dependencies import get_ingest, get_page_ingest, get_writer, refuse_query
from services.ingest.body_formats import PAGE_EVENTS
from services.ingest.http_body import MAX_EVENTS
from services.ingest.http_event_validation import MAX_VALUES
from services.ingest.ingest_service import Ingest

BROWSER_PATH = "/events/browser"

router = APIRouter(tags=["events"], responses=PROBLEMS_OF_BODIES)


def _body(text: str, description: str) -> dict[str, Any]:
    """The OpenAPI description of the body, which FastAPI cannot derive because we parse it."""
    event = NewEvent.model_json_schema()
    several = {"type": "array", "items": event, "maxItems": MAX_EVENTS}
    lines = {"type": "string", "description": description}
    content = {"application/json": {"anyOf": [event, several]}, text: lines}
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
    openapi_extra={"requestBody": _body("application/x-ndjson", "One event per line.")},
    dependencies=[Depends(get_writer), Depends(refuse_query)],
)
async def post_events(ingest: Annotated[Ingest, Depends(get_ingest)]) -> Response:
    """Store events: all events of the request, or none if one of them is invalid.

    Events are committed before the response. If no response arrives, repeat the request: each
    `event_id` is stored once.
    """
    return await ingest()


@router.post(
    BROWSER_PATH,
    response_model=StoredEvents,
    response_description="All events are committed",
    openapi_extra={"requestBody": _body("text/plain", "JSON: one event, or an array.")},
)
async def post_browser_events(ingest: Annotated[Ingest, Depends(get_page_ingest)]) -> Response:
    """Store events of a web page, as `navigator.sendBeacon` sends them: JSON as `text/plain`.

    The key is in the URL. It must be limited to origins, and the `Origin` of the request be one of
    them. The service must have ANALYTICS_BROWSER_EVENTS=true.
    """
    return await ingest(PAGE_EVENTS)
