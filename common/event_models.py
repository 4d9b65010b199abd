"""Events as the platform sends them, for the API's description."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class NewEvent(BaseModel):
    """Something that somebody did."""

    model_config = ConfigDict(extra="forbid")

    event_id: UUID | None = Field(
        default=None,
        description="What the event is known by: it counts once, however often it is sent. "
        "Without it the server makes one, and the event counts each time it is sent.",
        examples=["0197a3c4-5b7e-7c3d-9d65-0d3f2b8a1c11"],
    )
    user_id: str | None = Field(
        default=None,
        max_length=256,
        description="Who did it, at most 256 bytes of UTF-8; null or empty: nobody.",
        examples=["u_e5e88ca5b91b"],
    )
    event_name: str = Field(
        min_length=1,
        max_length=200,
        description="What was done, at most 200 bytes of UTF-8.",
        examples=["page_view"],
    )
    occurred_at: datetime | None = Field(
        default=None,
        description="When, RFC 3339 with an offset, from the year 2000 on and at most 5 minutes "
        "ahead. Needed with an `event_id`; else it is now unless given.",
        examples=["2026-01-31T09:00:00+01:00"],
    )
    properties: dict[str, Any] | None = Field(
        default=None,
        description="Whatever else there is to tell, less than 64 kB. Numbers stay as they are "
        "given; a key that comes twice is refused.",
        examples=[{"path": "/pricing"}],
    )


class StoredEvents(BaseModel):
    """What became of the events of a request, all of which are stored now."""

    accepted: int = Field(description="Events that were new.")
    duplicates: int = Field(
        description="Events whose event_id was stored before or came before in the request; the "
        "first of an id counts, whatever the others say."
    )
    refused: int = Field(
        default=0,
        description="Events of suppressed users; not there where there are none.",
    )
