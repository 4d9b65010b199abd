"""Paths that more than one room has doors at."""

from starlette.convertors import Convertor, register_url_convertor


class _Text(Convertor[str]):
    """Any text, slashes and line breaks too: it is up to the platform how users are called."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _Text())

USER = "/users/{user_id:text}"
