"""Parameters of paths and query strings: user ids in paths, and the rejection of repeated ones."""

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.convertors import Convertor, register_url_convertor

from common.errors import Fault, InvalidParameter
from common.parameters import Parameters


class _Text(Convertor[str]):
    """Any text, slashes and line breaks included: the platform decides what a user id is."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _Text())

USER = "/users/{user_id:text}"


def refuse_repeated(*models: type[Parameters]) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that rejects repeated parameters, of which one value would be ignored.

    The dependency raises: InvalidParameter.
    """
    single = set[str]().union(*(model.single_parameters() for model in models))

    async def check(request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        repeated = sorted(name for name in single if names.count(name) > 1)
        if repeated:
            raise InvalidParameter(faults=[Fault(name, "must be given once") for name in repeated])

    return check
