"""The memory that caches are sized by."""

from pathlib import Path

from utils.memory import memory_bytes


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    assert memory_bytes(limit) == 2**20


def test_without_a_limit_the_memory_of_the_machine_counts(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    absent = memory_bytes(limit)
    assert absent > 2**27
    for text in ("max\n", f"{2**62}\n"):
        limit.write_text(text)
        assert memory_bytes(limit) == absent
