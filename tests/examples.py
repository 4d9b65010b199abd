"""How much is tried of what is random: some of it in the suite, all of it by `make test-faults`."""

import os

IS_LONG = os.environ.get("EXAMPLES") == "all"


def examples(most: int) -> int:
    """In the suite a third of them."""
    return most if IS_LONG else max(3, most // 3)


def seconds(most: float) -> float:
    """In the suite a third of them."""
    return most if IS_LONG else most / 3
