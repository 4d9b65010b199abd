"""Whether the process lives, and whether it can answer."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response

from config.database import Connection, DatabaseError
from repo.schema import SchemaRepo
from services.cache_service import CacheFailed
from services.dependencies import get_request_connection, get_resources
from services.resources import Resources

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives. It asks nobody."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "What is missing"}})
async def readyz(
    resources: Annotated[Resources, Depends(get_resources)],
    connection: Annotated[Connection, Depends(get_request_connection)],
) -> Response:
    """Whether questions can be answered, and by what; without Redis they can, only slower."""
    database = await _database(connection)
    checks = {
        "database": database,
        "cache": await _cache(resources),
        "rollups": await _rollups(connection) if database == "ok" else "unknown",
    }
    ready = database == "ok"
    body = {"status": "ready" if ready else "not ready", "checks": checks}
    return Response(msgspec.json.encode(body), 200 if ready else 503, media_type="application/json")


async def _database(connection: Connection) -> str:
    repo = SchemaRepo(connection)
    try:
        missing = await connection.run(repo.get_missing_migrations)
    except DatabaseError as error:
        return f"unavailable: {type(error).__name__}"
    return "ok" if not missing else f"{missing} migrations missing: run python main.py migrate"


_ROLLUPS = {
    "ok": "ok",
    "none": "not built yet: questions are answered from the events, as exactly and slower",
    "foreign": "of the database that this one was restored from, and being built anew: "
    "questions are answered from the events, as exactly and slower",
}


async def _rollups(connection: Connection) -> str:
    repo = SchemaRepo(connection)
    try:
        return _ROLLUPS[await connection.run(repo.get_state_of_rollups)]
    except DatabaseError as error:
        return f"unavailable: {type(error).__name__}"


async def _cache(resources: Resources) -> str:
    try:
        await resources.cache.ping()
    except CacheFailed:
        return "unavailable: questions are answered without it"
    return "ok"
