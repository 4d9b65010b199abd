"""The page that Prometheus scrapes."""

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """All metrics, written down in a thread: with many series it takes a while."""
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(await run_in_threadpool(encode, REGISTRY), headers={"Content-Type": media_type})
