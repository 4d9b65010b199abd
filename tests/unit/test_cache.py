"""The cache of columns: in memory, and in files of a folder."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repo.columns.cache import ChunkKey, ColumnCache, ColumnFolder, LiveChunks
from repo.columns.codec import PACKED, StoredKey, encode, field_key

USER, TIME, PLAN = field_key("user"), field_key("time"), StoredKey(7, 1)
KEY = ChunkKey("db", 5)
USERS = np.arange(1_000, dtype=np.uint32)


def stored(number: int = 0) -> dict[StoredKey, bytes]:
    return {USER: encode({USER: USERS + np.uint32(number)})}


def packed() -> dict[StoredKey, bytes]:
    return {PACKED: encode({USER: USERS, TIME: USERS.astype(np.int64)})}


def cached(cache: ColumnCache, key: ChunkKey = KEY) -> bool:
    _, missing = cache.look_up(key, [USER], 1)
    return not missing


@pytest.fixture
def cache() -> ColumnCache:
    return ColumnCache(2**20)


@pytest.fixture
def folder(tmp_path: Path) -> ColumnFolder:
    return ColumnFolder(tmp_path, 2**20)


@pytest.fixture
def cache_with_folder(folder: ColumnFolder) -> ColumnCache:
    cache = ColumnCache()
    cache.share(folder)
    return cache


def test_columns_are_read_once_also_those_that_a_chunk_lacks(cache: ColumnCache) -> None:
    assert cache.look_up(KEY, [USER, PLAN], 1) == ({}, [USER, PLAN])
    cache.add(KEY, [USER, PLAN], stored(), 1)
    columns, missing = cache.look_up(KEY, [USER, PLAN, TIME], 1)
    assert missing == [TIME]
    assert columns[PLAN] is None
    np.testing.assert_array_equal(columns[USER], USERS)


def test_a_packed_chunk_has_no_other_columns(cache: ColumnCache) -> None:
    cache.add(KEY, [USER], packed(), 1)
    columns, missing = cache.look_up(KEY, [TIME, PLAN], 1)
    assert missing == []
    assert columns.get(PLAN) is None


def test_the_chunks_that_were_not_used_for_longest_are_evicted() -> None:
    cache = ColumnCache(3 * 6_001)  # three users' columns
    for chunk_id in (1, 2, 3):
        cache.add(ChunkKey("db", chunk_id), [USER], stored(), 1)
    assert cached(cache, ChunkKey("db", 1))
    cache.add(ChunkKey("db", 4), [USER], stored(), 1)
    found = [cached(cache, ChunkKey("db", chunk_id)) for chunk_id in (1, 2, 3, 4)]
    assert found == [True, False, True, True]


def test_nothing_stays_in_a_cache_without_room() -> None:
    cache = ColumnCache(0)
    assert set(cache.add(KEY, [USER], stored(), 1)) == {USER}
    assert not cached(cache)


def test_chunks_that_were_replaced_are_forgotten(cache: ColumnCache) -> None:
    other, elsewhere = ChunkKey("db", 6), ChunkKey("other", 5)
    for key in (KEY, other, elsewhere):
        cache.add(key, [USER], stored(), 1)
    cache.keep(LiveChunks("db", 2, frozenset({6})))
    assert [cached(cache, key) for key in (KEY, other, elsewhere)] == [False, True, False]


def test_a_question_of_an_older_snapshot_brings_no_replaced_chunk_back(
    cache_with_folder: ColumnCache, tmp_path: Path
) -> None:
    cache_with_folder.keep(LiveChunks("db", 2, frozenset({6})))
    assert set(cache_with_folder.add(KEY, [USER], stored(), 1)) == {USER}
    assert not cached(cache_with_folder)
    assert list(tmp_path.iterdir()) == []
    cache_with_folder.add(ChunkKey("db", 7), [USER], stored(), 3)  # newer than what is known
    assert cached(cache_with_folder, ChunkKey("db", 7))


def test_a_chunk_that_is_replaced_while_its_file_is_written_leaves_no_file(
    cache_with_folder: ColumnCache,
    folder: ColumnFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = folder.write

    def write_late(*args: Any) -> Any:
        cache_with_folder.keep(LiveChunks("db", 2, frozenset({6})))
        return write(*args)

    monkeypatch.setattr(folder, "write", write_late)
    columns = cache_with_folder.add(KEY, [USER], stored(), 1)
    np.testing.assert_array_equal(columns[USER], USERS)
    assert not cached(cache_with_folder)
    assert list(tmp_path.iterdir()) == []


def test_files_of_killed_processes_are_removed(folder: ColumnFolder, tmp_path: Path) -> None:
    killed, writing = tmp_path / "a.1-0.partial", tmp_path / "a.2-0.partial"
    for file in (killed, writing):
        file.write_bytes(b"part")
    os.utime(killed, (0, 0))
    folder.keep(LiveChunks("db", 2, frozenset({5})))
    assert list(tmp_path.iterdir()) == [writing]


def test_another_process_opens_the_files(folder: ColumnFolder, tmp_path: Path) -> None:
    first, second = ColumnCache(), ColumnCache()
    for each in (first, second):
        each.share(folder)
    first.add(KEY, [USER], stored(), 1)
    first.add(ChunkKey("db", 6), [USER], packed(), 1)
    columns, missing = second.look_up(KEY, [USER, TIME], 1)
    assert missing == [TIME]
    np.testing.assert_array_equal(columns[USER], USERS)
    assert second.look_up(ChunkKey("db", 6), [USER, TIME, PLAN], 1)[1] == []
    assert second.look_up(ChunkKey("other", 5), [USER], 1)[1] == [USER]
    assert [path.suffix for path in tmp_path.iterdir()] == [".arrow"] * 2


@pytest.mark.parametrize("columns", [stored(), packed()], ids=["large chunk", "packed chunk"])
def test_columns_with_files_are_found_in_memory_again(
    cache_with_folder: ColumnCache, columns: dict[StoredKey, bytes]
) -> None:
    cache_with_folder.add(KEY, [USER, PLAN], columns, 1)
    found, missing = cache_with_folder.look_up(KEY, [USER, PLAN], 1)
    assert missing == []
    assert found.get(PLAN) is None
    np.testing.assert_array_equal(found[USER], USERS)


def test_arrays_stay_valid_when_their_file_is_removed(
    cache_with_folder: ColumnCache, tmp_path: Path
) -> None:
    users = cache_with_folder.add(KEY, [USER], stored(), 1)[USER]
    cache_with_folder.keep(LiveChunks("db", 2, frozenset()))
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(users, USERS)


def test_a_folder_that_was_removed_is_not_needed(tmp_path: Path) -> None:
    cache = ColumnCache()
    cache.share(ColumnFolder(tmp_path / "gone", 2**20))
    assert set(cache.add(KEY, [USER], stored(), 1)) == {USER}
    cache.keep(LiveChunks("db", 2, frozenset({5})))
    assert cached(cache)


def test_a_damaged_file_is_removed(folder: ColumnFolder, tmp_path: Path) -> None:
    cache = ColumnCache()
    cache.share(folder)
    cache.add(KEY, [USER], stored(), 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"damaged")
    cache.share(folder)
    assert not cached(cache)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_bounded_and_loses_the_files_that_were_not_used_for_longest(
    tmp_path: Path,
) -> None:
    folder = ColumnFolder(tmp_path, 40_000)
    cache = ColumnCache()
    cache.share(folder)
    for chunk_id in range(50):
        cache.add(ChunkKey("db", chunk_id), [USER], stored(), 1)
    files = list(tmp_path.iterdir())
    assert 20_000 < sum(file.stat().st_size for file in files) < 50_000
    assert f"-{49}-" in "".join(file.name for file in files)


@pytest.mark.parametrize(("max_bytes", "is_cached"), [(0, False), (10_000, False), (20_000, True)])
def test_a_packed_chunk_is_cached_as_a_whole_or_not_at_all(max_bytes: int, is_cached: bool) -> None:
    cache = ColumnCache(max_bytes)
    cache.add(KEY, [USER], packed(), 1)
    columns, missing = cache.look_up(KEY, [USER], 1)
    assert missing == ([] if is_cached else [USER])
    assert (USER in columns) is is_cached
