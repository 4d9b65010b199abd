"""Events over HTTP: what the platform sends."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from common.errors import Fault, InvalidParameter
from common.event_models import NewEvent, StoredEvents
from routes.errors import PROBLEMS_OF_BODIES
from services.dependencies import Ingest, get_ingest, get_writer
from services.ingest.http_events import MAX_EVENTS
from services.ingest.json_limits import MAX_VALUES


async def refuse_parameters(request: Request) -> None:
    """All there is to say is in the body. Raises: InvalidParameter."""
    if request.query_params:
        raise InvalidParameter(faults=[Fault("(unknown)", "no parameters are allowed here")])


router = APIRouter(
    tags=["events"],
    responses=PROBLEMS_OF_BODIES,
    dependencies=[Depends(get_writer), Depends(refuse_parameters)],
)


def _body() -> dict[str, Any]:
    """The body, for the API's description: it is read by us and not by the framework."""
    event = NewEvent.model_json_schema()
    several = {"type": "array", "items": event, "maxItems": MAX_EVENTS}
    lines = {"type": "string", "description": "One event on each line."}
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
    response_description="All are stored, and survive what may come",
    openapi_extra={"requestBody": _body()},
)
async def post_events(ingest: Annotated[Ingest, Depends(get_ingest)]) -> Response:
    """Store events: all of the request or, where one of them cannot be stored, none.

    They are committed before the answer. A request whose answer did not come may be repeated: an
    `event_id` counts once.
    """
    return await ingest()
