"""Decimal numbers as text."""

from decimal import Decimal

_DIGITS = bytes(range(48, 58)).ljust(256)


def decimal_text(number: Decimal) -> str:
    """Return the shortest form of a finite number; equal numbers have the same form."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "JSON has no infinite numbers"
    text = bytes(digits).translate(_DIGITS).decode().lstrip("0")
    stripped = text.rstrip("0")
    if not stripped:
        return "0"
    exponent += len(text) - len(stripped)
    prefix = "-" if sign else ""
    if 0 <= exponent <= 20:
        return prefix + stripped + "0" * exponent
    if -20 <= exponent < 0:
        padded = stripped.rjust(1 - exponent, "0")
        return f"{prefix}{padded[:exponent]}.{padded[exponent:]}"
    return f"{prefix}{stripped}e{exponent}"
