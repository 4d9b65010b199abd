"""Parse `Accept` headers and weigh media types by them (RFC 9110, section 12.5.1)."""

import re

_WEIGHT = re.compile(r"[01](\.\d{0,3})?")


def media_ranges(accept: str) -> list[tuple[float, str]]:
    """Return (weight, media range) of each part, in lower case; a malformed weight counts as 0."""
    return [_weighted(part) for part in accept.lower().split(",")]


def weight_of(accept: str, media_type: str) -> float:
    """Return the weight of the most specific range that matches a media type, or 0 if none does."""
    weights = {media_range: weight for weight, media_range in media_ranges(accept)}
    main, _, _ = media_type.partition("/")
    candidates = (media_type, f"{main}/*", "*/*")
    return next((weights[each] for each in candidates if each in weights), 0.0)


def prefers(accept: str, media_type: str, default: str) -> bool:
    """Return whether a media type has a higher weight than `default`."""
    return weight_of(accept, media_type) > weight_of(accept, default)


def _weighted(media_range: str) -> tuple[float, str]:
    media, *parameters = (part.strip() for part in media_range.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            match = _WEIGHT.fullmatch(parameter[2:])
            return float(match[0]) if match else 0.0, media
    return 1.0, media
