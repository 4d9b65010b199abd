"""Spark reads an export, and counts what the service counts: `make test-comparison`."""

from pathlib import Path

import httpx

from tests.api.questions import ask
from tests.cli import run_cli
from tests.comparison.environment import run
from tests.pages import DOCS
from tests.sdks.programs import program

SESSION = """
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
"""
NUMBERS = """
rows = spark.sql('''
    select event_name, count(*), count(distinct user_id), min(occurred_at), max(occurred_at)
    from events where year(day) = 2025 group by event_name order by 2 desc, 1
''').collect()
for row in rows:
    print("|".join(map(str, row)))
"""


def test_spark_reads_an_export(history: httpx.Client, history_url: str, tmp_path: Path) -> None:
    to = tmp_path / "to"
    done = run_cli("export", "--to", to, DATABASE_URL=history_url)
    assert done.exit_code == 0, done.output
    page = program(DOCS / "export.md", "Reading the files", "python")
    text = page.replace("/var/lib/analytics-export", str(to))
    printed = run(f'{SESSION}\n{text}\nevents.createTempView("events")\n{NUMBERS}')
    rows = [line.split("|") for line in printed.splitlines() if "|" in line]
    year = {"start": "2025-01-01", "end": "2026-01-01"}
    top = ask(history, "top-events", **year, limit=1000)["data"]["rows"]
    counted = [[row["event_name"], str(row["events"]), str(row["users"])] for row in top]
    assert [row[:3] for row in rows if len(row) == 5] == counted
    assert ["commit", "2521", "183"] in counted
