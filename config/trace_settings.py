"""Settings of traces: the variables of OpenTelemetry that the service itself has to know."""

import os
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

_TIMEOUT_S = 2.0


class TraceSettings(BaseSettings):
    """The settings of traces. As OpenTelemetry specifies, a variable for traces takes precedence
    over the one for all signals."""

    otel_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="URL of the OpenTelemetry collector; traces are sent to its `/v1/traces`; "
        "unset: no traces",
    )
    otel_traces_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        description="complete URL that traces are sent to instead",
    )
    otel_timeout: float | None = Field(
        None,
        gt=0,
        validation_alias="OTEL_EXPORTER_OTLP_TIMEOUT",
        description="timeout of sending traces in seconds; unset: 2",
    )
    otel_traces_timeout: float | None = Field(
        None,
        gt=0,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        description="timeout for traces alone, in seconds; takes precedence",
    )
    otel_traces_exporter: Literal["otlp", "none"] = Field(
        "otlp", validation_alias="OTEL_TRACES_EXPORTER", description="none: no traces"
    )
    otel_sdk_disabled: bool = Field(
        False, validation_alias="OTEL_SDK_DISABLED", description="true: no traces"
    )

    trace_link_only: bool = Field(
        False,
        description="true: the `traceparent` of a client is linked to a trace that begins here; "
        "false: its trace is continued, and its sampled flag decides what is recorded",
    )

    @property
    def sends_traces(self) -> bool:
        """Whether traces are sent: an endpoint is set, and neither variable disables traces."""
        is_wanted = self.otel_traces_exporter == "otlp" and not self.otel_sdk_disabled
        return is_wanted and bool(self.otel_traces_endpoint or self.otel_endpoint)

    @property
    def trace_timeout_s(self) -> float:
        """The timeout of sending traces, in seconds."""
        return self.otel_traces_timeout or self.otel_timeout or _TIMEOUT_S


def use_stable_names() -> None:
    """Let OpenTelemetry's instrumentation name attributes by the stable HTTP conventions."""
    # It takes this from nowhere else, and reads it once.
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"
