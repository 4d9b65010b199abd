"""The yardstick for cached answers: a bare Starlette handler with one GET from Redis."""

import os

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_client = Redis.from_url(os.environ["REDIS_URL"])


async def _get(_: Request) -> Response:
    return Response(await _client.get("bare"), media_type="application/json")


app = Starlette(routes=[Route("/", _get)])
