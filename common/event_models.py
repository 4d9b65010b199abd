"""Models of events in requests and responses, for the OpenAPI description."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class NewEvent(BaseModel):
    """An event to store."""

    model_config = ConfigDict(extra="forbid")

    event_id: UUID | None = Field(
        default=None,
        description="The identity of the event: it counts once, however often it is sent. Without "
        "one the server creates it, and the event counts each time it is sent.",
        examples=["0197a3c4-5b7e-7c3d-9d65-0d3f2b8a1c11"],
    )
    user_id: Annotated[str, Field(max_length=256)] | int | None = Field(
        default=None,
        description="The user, at most 256 bytes of UTF-8; a whole number is stored as its digits; "
        "null or empty for an anonymous event.",
        examples=["u_e5e88ca5b91b"],
    )
    event_name: str = Field(
        min_length=1,
        max_length=200,
        description="The kind of event, at most 200 bytes of UTF-8.",
        examples=["page_view"],
    )
    occurred_at: datetime | None = Field(
        default=None,
        description="The time of the event, RFC 3339 with an offset, from the year 2000 on and at "
        "most 5 minutes ahead. Required with an `event_id`; otherwise the default is now.",
        examples=["2026-01-31T09:00:00+01:00"],
    )
    properties: dict[str, Any] | None = Field(
        default=None,
        description="More data about the event, less than 64 kB. Numbers are stored exactly as "
        "sent; a repeated key is refused.",
        examples=[{"path": "/pricing"}],
    )


class StoredEvents(BaseModel):
    """The number of events of a request that were new, and of those that were not stored."""

    accepted: int = Field(description="Events that were stored.")
    duplicates: int = Field(
        description="Events whose `event_id` was stored before, or is repeated in the request. The "
        "first event of an id counts, even if the others differ."
    )
    refused: int = Field(
        default=0,
        description="Events of suppressed users, which are not stored; absent if there are none.",
    )


class InvalidCall(BaseModel):
    """An error in a call that was not stored."""

    parameter: str = Field(description="The key of the call.")
    message: str = Field(description="What is allowed.")
    index: int = Field(description="The position of the call in the batch, from 0.")


class StoredCalls(StoredEvents):
    """The number of calls of a batch that were stored, and what is wrong with the others."""

    rejected: int = Field(
        default=0, description="Invalid calls, which are not stored; absent if there are none."
    )
    errors: list[InvalidCall] = Field(
        default=[], description="What is wrong with the first 100 of them; absent if none is."
    )
