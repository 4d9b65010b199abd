"""Compare the counts of random filters with those of DuckDB and chDB, on typed columns."""

import json
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

from bench.event_set import COUNTRIES, DAYS, PATHS, PLANS, PLATFORMS, START
from bench.wide.cases import Condition, WideCase
from bench.wide.systems import WideSystem
from services.demo_data import NAMES

FILTERS = 60

_SEED = 11
_MAX_DAYS = 10
_MAX_DEPTH = 3
_VALUES: dict[str, tuple[str, ...]] = {
    "country": COUNTRIES,
    "platform": PLATFORMS,
    "plan": PLANS,
    "path": PATHS,
    "@event": NAMES,
}
_COLUMNS = {"@event": "event_name"}


def check_random_filters(systems: list[WideSystem], say: Callable[[str], None]) -> None:
    """Ask all systems for the events and users of `FILTERS` filters, each in another range.

    Raises: AssertionError if two systems count differently.
    """
    random = Random(_SEED)
    for _ in range(FILTERS):
        case = _random_case(random)
        answers = {each.name: each.read(case, each.prepare(case)()) for each in systems}
        assert len({tuple(answer) for answer in answers.values()}) == 1, f"{case}: {answers}"
    say(f"{FILTERS} random filters: all systems count the same events and users")


def _random_case(random: Random) -> WideCase:
    start = START + timedelta(days=random.randint(0, DAYS - _MAX_DAYS))
    end = start + timedelta(days=random.randint(1, _MAX_DAYS))
    where, sql = _tree(random, _MAX_DEPTH)
    return WideCase("filtered_users", start.date(), end.date(), Condition(where, f"({sql})", ""))


def _tree(random: Random, depth: int) -> tuple[str, str]:
    """A filter and its SQL, which is true or false but never null."""
    if depth == 0 or random.random() < 0.2:
        return _term(random)
    if random.random() < 0.25:
        where, sql = _tree(random, depth - 1)
        return f"-({where})", f"not ({sql})"
    word = random.choice(("and", "or"))
    items = [_tree(random, depth - 1) for _ in range(random.randint(2, 3))]
    where = f" {word} ".join(f"({where})" for where, _ in items)
    return where, f" {word} ".join(f"({sql})" for _, sql in items)


def _term(random: Random) -> tuple[str, str]:
    name = random.choice([*_VALUES, "amount", "@user"])
    if name == "amount":
        return _number_term(random)
    if name == "@user":
        return "@user:*", "user_id <> ''"
    return _text_term(random, name)


def _text_term(random: Random, name: str) -> tuple[str, str]:
    column = _COLUMNS.get(name, name)
    chosen = random.sample(_VALUES[name], random.randint(1, 3))
    part = chosen[0][: random.randint(1, len(chosen[0]))]
    text, lower = f"cast({column} as varchar)", part.lower()
    return random.choice(
        [
            (f"{name}:{','.join(map(json.dumps, chosen))}", f"{column} in {_sql_list(chosen)}"),
            (f"{name}:^{json.dumps(part)}", f"left({text}, {len(part)}) = '{part}'"),
            # The two systems have no function in common that looks for a text.
            (
                f"{name}:~{json.dumps(part)}",
                f"replace(lower({text}), '{lower}', '') <> lower({text})",
            ),
        ]
    )


def _number_term(random: Random) -> tuple[str, str]:
    low, high = sorted(round(random.uniform(0, 150), random.randint(0, 2)) for _ in range(2))
    operator = random.choice((">", ">=", "<", "<="))
    return random.choice(
        [
            ("amount:*", "amount is not null"),
            (f"amount:{operator}{low}", f"coalesce(amount {operator} {low}, false)"),
            (f"amount:{low}..{high}", f"coalesce(amount between {low} and {high}, false)"),
            (f"amount:{high}", f"coalesce(amount = {high}, false)"),
        ]
    )


def _sql_list(values: list[Any]) -> str:
    return "(" + ", ".join(f"'{value}'" for value in values) + ")"
