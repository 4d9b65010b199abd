"""`analytics_build_info`: what this process is made of."""

import platform

from prometheus_client import Gauge

from common.metrics import REGISTRY
from utils.postgres import libpq_version
from utils.version import version

BUILD_INFO = Gauge(
    "analytics_build_info",
    "1, with the versions of the service, of Python and of libpq, PostgreSQL's client library.",
    ("version", "python", "libpq"),
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
BUILD_INFO.labels(version(), platform.python_version(), libpq_version()).set(1)
