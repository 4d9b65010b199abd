"""Exit with 0 if the service in this container is alive. Uses only the standard library."""

import os
import sys
from http.client import HTTPConnection, HTTPException

connection = HTTPConnection("127.0.0.1", int(os.environ.get("ANALYTICS_PORT") or 8000), timeout=3)
try:
    connection.request("GET", "/healthz")
    sys.exit(connection.getresponse().status != 200)
except (HTTPException, OSError) as exc:
    sys.exit(f"/healthz: {exc}")
