"""Values of metrics, in memory and in files that outlive a worker."""

from pathlib import Path

from common.metric_values import Value, _Files


def value() -> Value:
    return Value("counter", "hits", "hits_total", ("kind",), ("a",), "Hits.")


def test_a_value_counts_in_memory() -> None:
    hits = value()
    hits.inc(2)
    hits.inc(0.5)
    assert hits.get() == 2.5
    hits.set(1)
    assert hits.get() == 1


def test_what_was_counted_before_is_added_to_the_file(tmp_path: Path) -> None:
    hits = value()
    hits.inc(2)
    hits.open(_Files(tmp_path, 3))
    hits.inc(1)
    assert [file.name for file in tmp_path.iterdir()] == ["counter_3.db"]
    assert hits.get() == 3


def test_the_next_worker_of_a_slot_continues_its_counts(tmp_path: Path) -> None:
    hits = value()
    hits.open(_Files(tmp_path, 0))
    hits.inc(4)
    following = value()
    following.open(_Files(tmp_path, 0))
    following.inc(1)
    assert following.get() == 5


def test_live_gauges_have_files_of_their_own(tmp_path: Path) -> None:
    gauge = Value("gauge", "open", "open", (), (), "Open.", multiprocess_mode="livesum")
    gauge.open(_Files(tmp_path, 1))
    assert [file.name for file in tmp_path.iterdir()] == ["gauge_livesum_1.db"]
