"""The page that Prometheus scrapes."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool

from common.errors import Forbidden, Unauthorized
from common.metric_page import collected
from services.dependencies import get_resources
from services.resources import Resources

router = APIRouter(include_in_schema=False)


async def may_scrape(
    request: Request, resources: Annotated[Resources, Depends(get_resources)]
) -> None:
    """The page has a token of its own, so that Prometheus needs no key for questions.

    Raises: Unauthorized, Forbidden.
    """
    if resources.metrics_token is None:
        if not resources.keys.is_open:
            raise Forbidden("metrics", "Set ANALYTICS_METRICS_TOKEN and send it as a bearer token.")
        request.state.authorized = True
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    wanted = resources.metrics_token.get_secret_value()
    if kind.lower() != "bearer" or not secrets.compare_digest(given.encode(), wanted.encode()):
        raise Unauthorized
    request.state.authorized = True


@router.get("/metrics", dependencies=[Depends(may_scrape)])
async def metrics(request: Request) -> Response:
    """All metrics, written down in a thread: with many series it takes a while."""
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    page = await run_in_threadpool(lambda: encode(collected()))
    return Response(page, headers={"Content-Type": media_type})
