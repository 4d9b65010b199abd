"""How many examples random tests try: a sixth in the suite, all with `make test-faults`."""

import os

IS_LONG = os.environ.get("EXAMPLES") == "all"


def examples(max_count: int) -> int:
    """The number of examples to try: a sixth of `max_count` in the suite, at least 3."""
    return max_count if IS_LONG else max(3, max_count // 6)


def seconds(max_seconds: float) -> float:
    """How long a random test runs: a third of `max_seconds` in the suite."""
    return max_seconds if IS_LONG else max_seconds / 3
