"""Users who have no ordinal yet, in one question."""

from array import array

_FIRST = 2**31  # ordinals are positive integers of 4 bytes
_CHUNK_BYTES = 2**16
"""Bytes: nothing else runs in the process while a part is looked up."""


class TemporaryOrdinals(dict[bytes, int]):
    """Their numbers, for this question alone."""

    def __missing__(self, user_id: bytes) -> int:
        ordinal = self[user_id] = _FIRST + len(self)
        return ordinal

    def add_to(self, users: "array[int]", user_ids: bytes) -> None:
        """Add the numbers of these, each with a zero after it and as often as it stands there."""
        start = 0
        while start < len(user_ids):
            end = user_ids.index(b"\0", min(start + _CHUNK_BYTES, len(user_ids) - 1))
            users.extend(map(self.__getitem__, user_ids[start:end].split(b"\0")))
            start = end + 1
