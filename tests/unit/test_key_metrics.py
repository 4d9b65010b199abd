"""Names of keys as log lines and labels have them."""

import pytest

from common.key_metrics import KeyLabels, is_shown, printable_name

SERIES = "analytics_key_requests_total"


@pytest.mark.parametrize(
    ("name", "printable"),
    [
        ("dashboards", "dashboards"),
        ("Öl & Gas, 2025", "Öl & Gas, 2025"),
        ("a\nb", "a?b"),
        ("\x1b[31mred\x7f", "?[31mred?"),
        ("line\u2028break\u202eleft", "line?break?left"),
        ("(none)", "key (none)"),
        ("(other)", "key (other)"),
        ("-", "key -"),
    ],
)
def test_a_name_is_one_printable_line(name: str, printable: str) -> None:
    assert printable_name(name) == printable


def test_the_first_50_names_have_labels() -> None:
    names = [f"key-{n:02}" for n in range(60)]
    assert KeyLabels().update([*names, "key-00"]) == {name: name for name in names[:50]}


def test_a_name_that_ends_leaves_its_place_to_the_next() -> None:
    labels, names = KeyLabels(), [f"key-{n:02}" for n in range(51)]
    labels.update(names)
    assert is_shown(SERIES, {"key": "key-07", "status": "200"})
    assert "key-50" not in labels.update(names)
    assert "key-50" in labels.update(name for name in names if name != "key-07")
    assert not is_shown(SERIES, {"key": "key-07", "status": "200"})
    assert is_shown(SERIES, {"key": "key-50", "status": "200"})


@pytest.mark.parametrize("label", ["(none)", "(other)"])
def test_what_has_no_name_is_shown(label: str) -> None:
    labels = KeyLabels()
    labels.update(["tests"])
    assert is_shown(SERIES, {"key": label, "status": "401"})


def test_other_series_are_shown() -> None:
    labels = KeyLabels()
    labels.update(["tests"])
    assert is_shown("http_requests_total", {"method": "GET", "route": "/", "status": "200"})
