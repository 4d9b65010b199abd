"""Filters as SQL over jsonb, for tests: the product has one evaluator, and it is not in SQL."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor

from tests.where_oracle import Tree, parse

_VALUES_AT = """
create function pg_temp.values_at(node jsonb, path text[]) returns setof jsonb
language plpgsql immutable as $$
begin
    if jsonb_typeof(node) = 'array' then
        return query
            select value
            from   jsonb_array_elements(node) as elements (element),
                   pg_temp.values_at(element, path) as value;
    elsif jsonb_typeof(node) = 'object' then
        if path <> '{}' and node ? path[1] then
            return query select pg_temp.values_at(node -> path[1], path[2:]);
        end if;
    elsif path = '{}' and node <> 'null' then
        return next node;
    end if;
end
$$
"""

_CASEFOLD = """
create function pg_temp.fold(value text) returns text language sql immutable
return casefold(value collate "pg_unicode_fast")
"""

_LOWER = """
create function pg_temp.fold(value text) returns text language sql immutable
return lower(value)
"""

_TYPES = {str: "text", Decimal: "numeric", bool: "boolean"}
_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def create_functions(cur: cursor) -> None:
    """Create the functions that conditions need."""
    cur.execute(_VALUES_AT)
    cur.execute(_CASEFOLD if folds_all(cur) else _LOWER)


def folds_all(cur: cursor) -> bool:
    """Return whether PostgreSQL folds the case of all characters, and not only those of ASCII."""
    return bool(cur.connection.server_version >= 180000)


def condition(where: str | Tree) -> sql.Composable:
    """Return a condition on the columns user_id, event_name and properties."""
    tree = parse(where) if isinstance(where, str) else where
    if "not" in tree:
        return sql.SQL("not ({})").format(condition(tree["not"]))
    for key, word in (("all", " and "), ("any", " or ")):
        if key in tree:
            return sql.SQL("({})").format(sql.SQL(word).join(map(condition, tree[key])))
    return sql.SQL("exists (select from {} as each (value) where {})").format(
        _values(tree["property"]), _test(tree)
    )


def _values(path: Sequence[str] | str) -> sql.Composable:
    if path == "@event":
        return sql.SQL("(select to_jsonb(event_name))")
    if path == "@user":
        return sql.SQL("(select to_jsonb(user_id) where user_id <> '')")
    return sql.SQL("pg_temp.values_at(properties, {}::text[])").format(sql.Literal(list(path)))


def _test(tree: Tree) -> sql.Composable:
    ((test, operand),) = ((key, tree[key]) for key in tree if key != "property")
    if test == "exists":
        return sql.SQL("true")
    if test == "is":
        return sql.SQL("value in ({})").format(sql.SQL(", ").join(map(_json, operand)))
    if test == "starts_with":
        return _of_type("string", "starts_with({text}, {operand})", operand)
    if test == "contains":
        return _of_type(
            "string", "strpos(pg_temp.fold({text}), pg_temp.fold({operand})) > 0", operand
        )
    if test == "between":
        return _of_type("number", "{text}::numeric between {low} and {high}", [operand])
    return _of_type("number", f"{{text}}::numeric {_OPERATORS[test]} {{operand}}", [operand])


def _json(value: Any) -> sql.Composable:
    return sql.SQL("to_jsonb({}::{})").format(sql.Literal(value), sql.SQL(_TYPES[type(value)]))


def _of_type(kind: str, test: str, operands: Sequence[Any]) -> sql.Composable:
    """Return whether a value has a type, and then passes the test for one of the operands."""
    tests = [_with_operand(test, operand) for operand in operands]
    return sql.SQL("case jsonb_typeof(value) when {} then {} else false end").format(
        sql.Literal(kind), sql.SQL(" or ").join(tests)
    )


def _with_operand(test: str, operand: Any) -> sql.Composable:
    ends = operand if isinstance(operand, list) else [operand, operand]
    low, high = map(sql.Literal, ends)
    return sql.SQL(test).format(text=sql.SQL("(value #>> '{}')"), operand=low, low=low, high=high)
