"""Users who have no ordinal yet, in one question."""

from array import array

_FIRST = 2**31  # ordinals are positive integers of 4 bytes
_AT_ONCE = 2**16
"""Bytes: nothing else runs in the process while a part is looked up."""


class Strangers(dict[bytes, int]):
    """Their numbers, for this question alone."""

    def __missing__(self, user_id: bytes) -> int:
        number = self[user_id] = _FIRST + len(self)
        return number

    def add_to(self, users: "array[int]", ids: bytes) -> None:
        """Add the numbers of these, each with a zero after it and as often as it stands there."""
        start = 0
        while start < len(ids):
            end = ids.index(b"\0", min(start + _AT_ONCE, len(ids) - 1))
            users.extend(map(self.__getitem__, ids[start:end].split(b"\0")))
            start = end + 1
