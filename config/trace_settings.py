"""Where traces go, by the variables of OpenTelemetry. Its exporter reads the others itself."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

_TIMEOUT_S = 2.0


class TraceSettings(BaseSettings):
    """A variable for traces alone wins over the one for all that is sent."""

    otel_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="the OpenTelemetry collector, whose `/v1/traces` is sent traces; unset: no "
        "traces",
    )
    otel_traces_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        description="the whole address that traces are sent to, instead",
    )
    otel_timeout: float | None = Field(
        None,
        gt=0,
        validation_alias="OTEL_EXPORTER_OTLP_TIMEOUT",
        description="seconds that sending traces may take; unset: 2",
    )
    otel_traces_timeout: float | None = Field(
        None,
        gt=0,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        description="the same, for traces alone",
    )
    otel_traces_exporter: Literal["otlp", "none"] = Field(
        "otlp", validation_alias="OTEL_TRACES_EXPORTER", description="none: no traces"
    )
    otel_sdk_disabled: bool = Field(
        False, validation_alias="OTEL_SDK_DISABLED", description="true: no traces"
    )

    @property
    def sends_traces(self) -> bool:
        is_wanted = self.otel_traces_exporter == "otlp" and not self.otel_sdk_disabled
        return is_wanted and bool(self.otel_traces_endpoint or self.otel_endpoint)

    @property
    def trace_timeout_s(self) -> float:
        return self.otel_traces_timeout or self.otel_timeout or _TIMEOUT_S
