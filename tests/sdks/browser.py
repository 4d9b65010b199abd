"""A web page in headless Chromium: a server for the page, and what the page reports to it."""

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.wait_until import adjusted_for_load

_TIMEOUT_S = 30
_HEAD = """<!doctype html><meta charset="utf-8"><title>A page</title>
<script>
const report = (data) => fetch("/report", { method: "POST", body: JSON.stringify(data) });
addEventListener("error", (event) => report({ failure: event.message }));
addEventListener("unhandledrejection", (event) => report({ failure: String(event.reason) }));
</script>
"""
_TYPES = {"js": "text/javascript"}


class Site:
    """A server of pages on loopback. It has two origins: a name and an address."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files` are served by their paths, besides the page."""
        self._reports: queue.Queue[Any] = queue.Queue()
        self._page = b""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(files.get(self.path, site._page))

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"]))
                site._reports.put(json.loads(text))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                suffix = self.path.rpartition(".")[2]
                self.send_response(200)
                self.send_header("Content-Type", _TYPES.get(suffix, "text/html"))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        port = self.server.server_port
        self.origin, self.other_origin = f"http://127.0.0.1:{port}", f"http://localhost:{port}"

    def visit(self, origin: str, script: str) -> Any:
        """Open a page with this script, and return what it reports."""
        module = f"<script type=module>\n{script}\n</script>"
        self._page = f"{_HEAD}{module}".encode()
        with _browser(f"{origin}/"):
            reported = self._reports.get(timeout=adjusted_for_load(_TIMEOUT_S))
        assert "failure" not in reported, reported
        return reported


@contextmanager
def serving_pages(files: Mapping[str, bytes]) -> Iterator[Site]:
    site = Site(files)
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()
        thread.join()


@contextmanager
def _browser(url: str) -> Iterator[None]:
    """Chromium with a new profile, which stays on the page until the end of the block."""
    program = shutil.which("chromium")
    assert program is not None, "these tests need Chromium (Debian: chromium)"
    with ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        options = (
            "--headless=new",
            "--no-sandbox",  # which Chromium refuses as root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-port=0",  # without it, Chromium ends when the page is loaded
            f"--user-data-dir={profile}",
        )
        process = subprocess.Popen(
            [program, *options, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        yield
