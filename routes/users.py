"""Users over HTTP: erasing them."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from common.answers import Receipt
from common.parameters import Boolean, Parameters, UserId
from routes.errors import PROBLEMS, refuse_repeated
from services.dependencies import Erase, get_admin, get_erase


class _Text(Convertor[str]):
    """Any text, slashes and line breaks too: it is up to the platform how users are called."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _Text())

USER = "/users/{user_id:text}"

_HISTORY = "/events"


class Erasure(Parameters):
    """How a user is erased."""

    suppress: Boolean = Field(
        False,
        description="Leave out events of the user that come in later, such as late ones that are "
        "sent again: the digest of the id is kept on a list for it.",
    )


async def refuse_history(request: Request) -> None:
    """Who would erase a history alone must not erase the user `u/events` instead.

    Raises: HTTPException.
    """
    path, user_id = request.scope["raw_path"].decode(), request.path_params["user_id"]
    if path.endswith(_HISTORY) and user_id.endswith(_HISTORY):
        raise HTTPException(405, headers={"Allow": "GET"})


router = APIRouter(
    prefix="/analytics",
    tags=["users"],
    responses=PROBLEMS,
    dependencies=[Depends(get_admin), Depends(refuse_history), Depends(refuse_repeated)],
)


@router.delete(USER, responses={200: {"model": Receipt}})
async def erase_user(
    user_id: Annotated[
        UserId,
        Path(description="The user, as events name them. At the end, write `/events` as %2Fevents"),
    ],
    how: Annotated[Erasure, Query()],
    erase: Annotated[Erase, Depends(get_erase)],
) -> Response:
    """Erase a user: the events, and whatever was made of them, at once or not at all.

    The answer is the receipt, which names nobody; of a user whom nobody knows it is one of nothing.
    This needs the scope `admin`, and cannot be undone.
    """
    receipt = await erase(user_id, suppressed=how.suppress)
    return Response(msgspec.json.encode(receipt), media_type="application/json")
