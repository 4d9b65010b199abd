"""Parameters of paths: user ids, and names of properties."""

from starlette.convertors import Convertor, register_url_convertor


class _Text(Convertor[str]):
    """Any text, slashes and line breaks included: the platform decides what a user id is, and how
    properties are called."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _Text())

USER = "/users/{user_id:text}"
PROPERTY = "/properties/{property:text}"
