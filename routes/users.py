"""DELETE /analytics/users/{user_id}: erase a user over HTTP."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field
from starlette.exceptions import HTTPException

from common.parameters import Boolean, Parameters, UserId
from common.receipts import Receipt
from routes.errors import PROBLEMS
from routes.parameters import USER
from services.dependencies import Erase, get_admin, get_erase, refuse_repeated

_HISTORY = "/events"


class Erasure(Parameters):
    """Options of an erasure."""

    suppress: Boolean = Field(
        False,
        description="Discard events of the user that arrive later. The digest of the id is stored "
        "in a denylist.",
    )


async def refuse_history(request: Request) -> None:
    """Reject DELETE on the path of a history, which would erase the user `u/events`.

    Raises: HTTPException.
    """
    path, user_id = request.scope["raw_path"].decode(), request.path_params["user_id"]
    if path.endswith(_HISTORY) and user_id.endswith(_HISTORY):
        raise HTTPException(405, headers={"Allow": "GET"})


router = APIRouter(
    prefix="/analytics",
    tags=["users"],
    responses=PROBLEMS,
    dependencies=[Depends(get_admin), Depends(refuse_history), Depends(refuse_repeated(Erasure))],
)


@router.delete(USER, responses={200: {"model": Receipt}})
async def erase_user(
    user_id: Annotated[
        UserId,
        Path(description="The user id as in events. Write a trailing `/events` as %2Fevents"),
    ],
    how: Annotated[Erasure, Query()],
    erase: Annotated[Erase, Depends(get_erase)],
) -> Response:
    """Erase a user: their events and everything derived from them, in one transaction.

    Returns a receipt, which does not contain the user id; for an unknown user it counts nothing.
    Needs the scope `admin`. This cannot be undone.
    """
    receipt = await erase(user_id, suppressed=how.suppress)
    return Response(msgspec.json.encode(receipt), media_type="application/json")
