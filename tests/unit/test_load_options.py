"""The options of `load`, as they are written."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from commands._load_options import mapping_options, parse_options
from services.ingest.csv_dialect import NO_QUOTE
from services.ingest.input_file import ReadOptions
from services.ingest.mapping.options import MappingOptions


def parsed(*arguments: str) -> tuple[ReadOptions, MappingOptions]:
    """The options. Raises: click.UsageError."""
    results: list[Any] = []

    @click.command()
    @mapping_options
    def command(**values: Any) -> None:
        results.append(parse_options(values))

    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    (result,) = results
    assert isinstance(result, tuple)
    return result


def test_sources_are_lists_in_which_quotes_hold_commas() -> None:
    _, options = parsed("--map", 'user_id=a.b,"c,d"', "--id", "x, y")
    assert options.fields == {"user_id": ("a.b", '"c,d"')}
    assert options.id_sources == ("x", "y")


def test_properties_have_names_of_their_own() -> None:
    _, options = parsed("--property", "a", "--property", "a=b=c", "--property", "*")
    assert options.properties == {"a": None, "a=b": "c", "*": None}


def test_a_tab_may_be_written_as_an_escape() -> None:
    assert parsed("--delimiter", r"\t")[0].delimiter == "\t"
    assert parsed("--encoding", "UTF-8", "--quote", "'")[0] == ReadOptions(
        encoding="utf-8-sig", quote="'"
    )


def test_options_override_those_of_a_preset() -> None:
    _, options = parsed("--from", "amplitude", "--map", "user_id=amplitude_id", "--ignore", "app")
    assert options.fields["user_id"] == ("amplitude_id",)
    assert options.fields["event_id"] == ("uuid",)
    assert options.ignored == ("app",)
    assert options.properties == {"*": None}
    assert options.tz is not None
    assert "amplitude_id" not in options.optional
    _, derived = parsed("--from", "amplitude", "--id", "$insert_id", "--ignore", "*")
    assert "event_id" not in derived.fields
    assert derived.id_sources == ("$insert_id",)
    assert derived.properties == {}


def test_a_source_that_is_ignored_is_no_source_of_a_preset() -> None:
    """Otherwise an address that must not be stored would be stored as the user."""
    _, options = parsed("--from", "access-log", "--ignore", "remote_addr")
    assert options.fields["user_id"] == ("remote_user",)
    _, options = parsed("--from", "umami", "--ignore", "session_id")
    assert "user_id" not in options.fields


def test_the_header_of_a_preset_is_used() -> None:
    layout, _ = parsed("--from", "snowplow")
    assert (len(layout.header), layout.delimiter, layout.quote) == (131, "\t", NO_QUOTE)
    assert parsed("--from", "snowplow", "--quote", "'")[0].quote == "'"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--map", "nothing=x"],
        ["--map", "user_id=a", "--map", "user_id=b"],
        ["--map", "user_id=v", "--map", "event_name=v"],
        ["--map", "user_id=event_name"],
        ["--set", "event_id=7"],
        ["--property", "=x"],
        ["--ignore", "event_name"],
        ["--ignore", "*", "--property", "*"],
        ["--epoch", "s", "--time-format", "%Y"],
        ["--delimiter", "ab"],
        ["--encoding", "nothing"],
        ["--from", "nothing"],
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parsed(*arguments)
