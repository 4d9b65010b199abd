"""GET /: HTML for browsers, JSON otherwise."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from routes.overview import Overview, overview_of
from routes.root_page import CONTENT_SECURITY_POLICY, address_of, render
from services.container import Resources
from services.dependencies import get_resources
from utils.accept import prefers

_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}
_HTML_HEADERS = {
    **_HEADERS,
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
}
_FORMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}}
}

router = APIRouter(tags=["health"])


@router.get("/", response_model=Overview, responses=_FORMS)
async def root(
    request: Request, resources: Annotated[Resources, Depends(get_resources)]
) -> Response:
    """Links to the questions with examples, the version, and whether questions can be answered.

    A page where `Accept` prefers `text/html`. The status is 200 also if the service is not ready.
    """
    overview = await overview_of(request.app, resources)
    if prefers(request.headers.get("accept", ""), "text/html", "application/json"):
        page = render(overview, address_of(request.headers.get("host", "")))
        return Response(page, headers=_HTML_HEADERS, media_type="text/html")
    body = overview.model_dump_json()
    return Response(body, headers=_HEADERS, media_type="application/json")
