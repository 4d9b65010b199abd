"""Embedded PostgreSQL and Valkey, for a machine without servers.

One supervisor process per data directory runs both, as long as any client process uses them. Each
client holds a shared file lock, which the kernel releases when the process ends, even if killed.
"""

from services.embedded.binaries import EmbeddedError
from services.embedded.data_dir import Databases, Endpoints
from services.embedded.supervisor_client import are_running, embedded_servers

__all__ = ["Databases", "EmbeddedError", "Endpoints", "are_running", "embedded_servers"]
