"""PostgreSQL and Valkey of our own, for a machine that has neither.

One keeper process a data folder runs both. It lives as long as anybody uses them: users hold a
shared lock, which ends with their process however that ends.
"""

from services.embedded.binaries import EmbeddedError
from services.embedded.client import are_running, embedded_servers
from services.embedded.state_dir import Databases, Endpoints

__all__ = ["Databases", "EmbeddedError", "Endpoints", "are_running", "embedded_servers"]
