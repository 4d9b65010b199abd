"""The first page as HTML. It has no scripts, and loads nothing."""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template

from routes.overview import Overview, QuestionLink
from utils.paths import is_loopback

_PAGES = Path(__file__).parent / "pages"
_NAME = re.compile(r"^<!-- name: (\w+) -->\n", re.MULTILINE)
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_CODE = re.compile(r"`([^`]+)`")
_UNKNOWN_ADDRESS = "https://ADDRESS-OF-THIS-SERVICE"
_NO_PROBLEM = ("ok", "unknown")
_HEADLINES = {
    "ready": "Ready: questions are answered",
    "not ready": "Not ready: questions cannot be answered",
}
_METRICS = {
    "open": "for Prometheus",
    "token": "for Prometheus, with ANALYTICS_METRICS_TOKEN as the bearer token",
    "closed": "for Prometheus; closed until ANALYTICS_METRICS_TOKEN is set",
}


def _fragments() -> dict[str, Template]:
    _, *parts = _NAME.split((_PAGES / "root.html").read_text())
    named = zip(parts[::2], parts[1::2], strict=True)
    return {name: Template(text.strip()) for name, text in named}


_STYLE = (_PAGES / "root.css").read_text()
_FRAGMENTS = _fragments()

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
        "img-src data:",  # the icon, which browsers would look for at /favicon.ico
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def address_of(host: str) -> str:
    """The URL of the service for commands, from a `Host` header.

    A name without a port is reached through a proxy, which should speak HTTPS.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return _UNKNOWN_ADDRESS
    name, port = found.groups()
    is_plain = port or is_loopback(name.strip("[]"))
    return f"{'http' if is_plain else 'https'}://{host}"


def render(overview: Overview, address: str) -> str:
    """The whole page. `address` is the URL that commands call."""
    return _FRAGMENTS["page"].substitute(
        style=_STYLE,
        service=escape(overview.service),
        version=escape(overview.version),
        status=overview.status,
        kind=overview.status.replace(" ", "-"),
        headline=_HEADLINES[overview.status],
        checks="\n".join(_check(part, state) for part, state in overview.checks.items()),
        access=_access(overview, address),
        questions="\n".join(_question(each, overview, address) for each in overview.questions),
        metrics=_metrics(overview),
    )


def _fill(fragment: str, **values: str) -> str:
    """A fragment with values, each of them escaped."""
    return _FRAGMENTS[fragment].substitute({name: escape(text) for name, text in values.items()})


def _check(part: str, state: str) -> str:
    return _fill(
        "check", part=part, state=state, kind="fine" if state in _NO_PROBLEM else "problem"
    )


def _access(overview: Overview, address: str) -> str:
    if overview.needs_key:
        return _fill("key")
    return _fill("no_key", address=address, example=overview.questions[0].example)


def _metrics(overview: Overview) -> str:
    """A link if a browser can open the page."""
    access = overview.metrics_access
    fragment = "metrics_link" if access == "open" else "metrics_text"
    return _fill(fragment, access=_METRICS[access])


def _question(link: QuestionLink, overview: Overview, address: str) -> str:
    fragment = _FRAGMENTS["question_with_key" if overview.needs_key else "question"]
    return fragment.substitute(
        title=escape(link.title),
        description=_CODE.sub(r"<code>\1</code>", escape(link.description)),
        example=escape(link.example),
        address=escape(address),
    )
