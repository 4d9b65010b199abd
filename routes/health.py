"""Liveness and readiness."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response

from services.container import Resources
from services.dependencies import get_resources

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Liveness: the process handles requests. No server is contacted."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "PostgreSQL is not ready"}})
async def readyz(resources: Annotated[Resources, Depends(get_resources)]) -> Response:
    """Readiness: the state of PostgreSQL, Redis and rollups. Redis is optional."""
    checks = await resources.readiness.checks()
    is_ready = checks["database"] == "ok"
    body = {"status": "ready" if is_ready else "not ready", "checks": checks}
    return Response(
        msgspec.json.encode(body), 200 if is_ready else 503, media_type="application/json"
    )
