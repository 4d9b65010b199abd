"""How much is tried of what is random: some of it in the suite, all of it by `make test-faults`."""

import os

IS_LONG = os.environ.get("EXAMPLES") == "all"


def examples(max_count: int) -> int:
    """In the suite a third of them."""
    return max_count if IS_LONG else max(3, max_count // 3)


def seconds(max_seconds: float) -> float:
    """In the suite a third of them."""
    return max_seconds if IS_LONG else max_seconds / 3
