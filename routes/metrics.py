"""GET /metrics, for Prometheus."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool

from common.errors import Forbidden, Unauthorized
from common.metric_collector import collect_registry
from services.container import Resources
from services.dependencies import get_resources

router = APIRouter(include_in_schema=False)


async def require_scrape_token(
    request: Request, resources: Annotated[Resources, Depends(get_resources)]
) -> None:
    """Check the scrape token, which lets Prometheus read metrics without an API key.

    Raises: Unauthorized, Forbidden.
    """
    if resources.metrics_token is None:
        if not resources.keys.is_open:
            raise Forbidden("metrics", "Set ANALYTICS_METRICS_TOKEN and send it as a bearer token.")
        request.state.authorized = True
        return
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    expected = resources.metrics_token.get_secret_value()
    if kind.lower() != "bearer" or not secrets.compare_digest(token.encode(), expected.encode()):
        raise Unauthorized
    request.state.authorized = True


@router.get("/metrics", dependencies=[Depends(require_scrape_token)])
async def metrics(request: Request) -> Response:
    """All metrics, rendered in a thread because many series take long."""
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    body = await run_in_threadpool(lambda: encode(collect_registry()))
    return Response(body, headers={"Content-Type": media_type})
