"""Pictures on the pages show the answers next to them."""

from tests.for_each import for_each
from tools.pictures.answers import PICTURES, funnel_picture, pictures, retention_picture


@for_each(["funnel.svg", "retention.svg"])
def test_a_picture_is_drawn_from_the_answer_on_the_page(name: str) -> None:
    assert (PICTURES / name).read_text() == pictures()[name], "python -m tools.pictures.answers"


def test_a_bar_is_as_long_as_the_share_of_users_who_entered() -> None:
    rows = [
        {"step": "1", "users": "200", "of_previous": ""},
        {"step": "2", "users": "50", "of_previous": "0.25"},
    ]
    svg = funnel_picture(rows, ["view", "buy <now>"])
    assert svg.count("width='260' height='24'") == 3  # two backgrounds, and the first step
    assert svg.count("width='65' height='24'") == 1
    assert "2  buy &lt;now&gt;" in svg
    assert "50 users, 25 % of the step before" in svg


def test_cells_that_have_not_begun_are_left_out() -> None:
    cells = [{"share": 1.0}, {"share": 0.5}]
    cohorts = [
        {"day": "2025-10-01", "users": 8, "cells": cells},
        {"day": "2025-11-01", "users": 4, "cells": [{"share": 1.0}, None]},
    ]
    svg = retention_picture({"data": {"cohorts": cohorts, "total": cells}})
    assert svg.count("100 %") == 3
    assert svg.count("50 %") == 2
    assert "2025-11, 4 users" in svg
