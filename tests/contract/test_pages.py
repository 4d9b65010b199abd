"""The pages are true: what they show can be done, and what there is they tell."""

import re
from pathlib import Path

import httpx
import pytest

from common.deprecated_metrics import DEPRECATED_METRICS
from config.deprecated_settings import DEPRECATED_SETTINGS
from config.settings import Settings, variable
from main import COMMANDS, create_app
from tests import doc_commands, pages
from tests.for_each import for_each
from tests.live_server import scrape
from tests.pages import DOCS, PAGES, README, ROOT, Block
from utils.version import version

TEXT = README.read_text()
SETTINGS = (DOCS / "settings.md").read_text()
METRICS = (DOCS / "metrics.md").read_text()
UPGRADING = (DOCS / "upgrading.md").read_text()

# CONTRIBUTING.md tells where a new question would be.
NEW_FILES = {
    "common/questions/lapsed_users.py",
    "repo/queries/lapsed_users.py",
    "repo/sql/lapsed_users.sql",
    "tests/api/test_lapsed_users.py",
}
GLOSSARY = DOCS / "glossary.md"
TERMS = re.findall(r"^- \*\*([^*]+)\*\*: ", GLOSSARY.read_text(), re.MULTILINE)

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASES = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", CHANGELOG, re.MULTILINE | re.DOTALL)
GROUPS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

# All their commands are run, as these make sure.
RUN_BY = {
    "docs/adopt.md": "tests/commands/test_adopt.py::test_the_walk_through_is_true",
    "docs/operations.md": "tests/faults/test_operations.py::"
    "test_every_command_is_run_by_a_test_here",
}
BLOCKS = [(page, block) for page in PAGES for block in pages.blocks(page) if block.language == "sh"]
LINKS = [
    (page, link)
    for page in PAGES
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    if not link.startswith(("http://", "https://"))
]
PATHS = sorted(
    {
        (page, path)
        for page in PAGES
        if page.name != "CHANGELOG.md" and page.parent.name != "decisions"
        for path in re.findall(
            r"`((?:commands|routes|services|repo|common|config|utils|tests|tools|bench|deploy"
            r"|containers|prometheus|grafana)/[\w./-]*(?:/|\.\w+))`",
            page.read_text(),
        )
    }
)


@for_each(BLOCKS)
def test_each_command_is_checked(page: Path, block: Block) -> None:
    if test := RUN_BY.get(pages.name_of(page)):
        assert doc_commands.is_a_test(test)
    elif pages.is_request(block):
        assert block in [example.request for example in pages.examples(page)], "show its answer"
    else:
        assert list(doc_commands.faults(block)) == []


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "make bench NOTHING=1",
        "python main.py nothing",
        "python main.py load",
        ".venv/bin/python main.py nothing",
        "python main.py load events.csv --nothing",
        "python main.py keys create NAME --scope everything",
        "python -m tests.nothing",
        "export ANALYTICS_NOTHING=1",
        "zcat tests/nothing.gz | python main.py load -",
        "docker compose up nothing",
        "docker compose exec -T analytics python /app/main.py nothing",
        "cp nothing .env",
        "make test && make nothing",
        "alias ours='python main.py'\nours nothing",
        "curl -s 'http://127.0.0.1:8000/analytics/nothing'",
        "rm -rf data",
        "analytics nothing",
        "pg_dump --nothing",
        "install --mode=644 deploy/nothing /etc/nothing",
        "systemctl start nothing",
        "kubectl apply --filename deploy/kubernetes/nothing.yaml",
        "kubectl rollout status deployment/nothing",
        "kubectl exec deployment/analytics -- python /app/main.py nothing",
    ],
)
def test_a_command_that_is_wrong_is_found(command: str) -> None:
    assert list(doc_commands.faults(Block("", "sh", f"{command}    # as it is", 0, 1)))


@for_each(LINKS)
def test_each_link_leads_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f"{pages.name_of(page)} has a link to {path}"
    if anchor:
        assert anchor in pages.anchors(target), f"{pages.name_of(target)} has no #{anchor}"


@for_each(PAGES)
def test_each_page_is_finished(page: Path) -> None:
    assert re.findall(r"@[A-Z]+@|\b(?:TODO|FIXME|TBD)\b", page.read_text()) == []


@for_each(PATHS)
def test_each_file_that_a_page_names_exists(page: Path, path: str) -> None:
    if path not in NEW_FILES:
        assert (ROOT / path).exists(), f"{pages.name_of(page)} names {path}"


def test_log_messages_on_the_pages_are_in_the_code() -> None:
    """The runbooks say which lines of the log to look for."""
    quoted = re.compile(r"\blog messages? `([^`]+)`(?: and `([^`]+)`)?")
    text = " ".join((DOCS / "operations.md").read_text().split())
    messages = {message for found in quoted.findall(text) for message in found if message}
    starts = {message.partition(" ... ")[0] for message in messages}
    floors = ("commands", "routes", "services", "repo")
    code = "".join(file.read_text() for floor in floors for file in (ROOT / floor).rglob("*.py"))
    assert len(messages) >= 6
    assert [start for start in starts if f'"{start}' not in code] == []


@for_each(TERMS)
def test_each_term_of_the_glossary_is_used(term: str) -> None:
    texts = (page.read_text() for page in PAGES if page != GLOSSARY)
    assert any(re.search(rf"\b{term}", " ".join(text.split()), re.IGNORECASE) for text in texts)


def test_terms_are_defined_once() -> None:
    assert len(TERMS) >= 20
    assert len(TERMS) == len(set(TERMS))


@pytest.mark.parametrize("page", ["README", "CONTRIBUTING"])
def test_the_glossary_is_linked(page: str) -> None:
    assert "](docs/glossary.md)" in (ROOT / f"{page}.md").read_text()


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) < 280


def test_each_page_can_be_come_to_from_the_readme() -> None:
    leads = [(page, (page.parent / link.partition("#")[0]).resolve()) for page, link in LINKS]
    seen, known = {README}, {README, *DOCS.glob("*.md")}
    while new_pages := {target for page, target in leads if page in seen} & known - seen:
        seen |= new_pages
    assert known - seen == set(), "link to these"


@for_each(sorted((DOCS / "decisions").glob("0*.md")))
def test_each_decision_is_listed(page: Path) -> None:
    title = page.read_text().splitlines()[0]
    listed = (DOCS / "decisions" / "README.md").read_text()
    number, subject = title.removeprefix("# ").split(": ", 1)
    assert f"| [{number}]({page.name}) | {subject} |" in listed
    assert listed.count(f"| [{number}]") == 1


def test_no_line_of_the_changelog_is_left_over_from_a_merge() -> None:
    """Its sections are merged line by line: what follows a sentence begins another one."""
    assert re.findall(r"\.\n +[a-z].*", CHANGELOG) == []


def test_the_newest_release_is_this_version() -> None:
    assert RELEASES[0][0].partition(" ")[0] == version()


def test_releases_are_dated_and_stand_once_in_order() -> None:
    titles = [title for title, _ in RELEASES]
    dates = [re.fullmatch(r"\d+\.\d+\.\d+ - (20\d\d-\d\d-\d\d)", title) for title in titles]
    assert all(dates), titles
    found = [date[1] for date in dates if date]
    assert found == sorted(set(found), reverse=True)


@pytest.mark.parametrize(("title", "text"), RELEASES, ids=[title for title, _ in RELEASES])
def test_changes_are_grouped(title: str, text: str) -> None:
    """A group that stands twice is left over from a merge."""
    groups = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert set(groups) <= GROUPS
    assert len(groups) == len(set(groups)), groups


def test_no_change_is_listed_twice() -> None:
    lines = re.findall(r"^- .+$", CHANGELOG, re.MULTILINE)
    assert [line for line in lines if lines.count(line) > 1] == []


def test_a_release_is_not_changed_afterwards() -> None:
    """Bullets are counted: too many are lines of an old branch that a merge brought back."""
    assert [(title, text.count("\n- ")) for title, text in RELEASES[1:]] == [
        ("0.1.0 - 2026-11-26", 35)
    ]


@for_each(Settings.model_fields)
def test_each_setting_is_told_with_its_default(field: str) -> None:
    rows = [row for row in SETTINGS.splitlines() if row.startswith(f"| `{variable(field)}` |")]
    assert len(rows) == 1, f"describe {variable(field)} in docs/settings.md"
    described = Settings.model_fields[field]
    assert rows[0].endswith(f"| {described.description} |")
    if described.default_factory is None and described.default not in (None, ""):
        default = described.default
        assert f"| `{default}` |" in rows[0]


@for_each(PAGES)
def test_no_setting_is_told_that_is_none(page: Path) -> None:
    names = set(re.findall(r"\b(ANALYTICS_[A-Z_]+[A-Z])\b", page.read_text()))
    example = ROOT / ".env.example"
    of_compose = set(re.findall(r"\w+", example.read_text())) if example.exists() else set()
    known = {variable(field) for field in Settings.model_fields} | of_compose
    if page.name in ("CHANGELOG.md", "settings.md", "upgrading.md"):
        known |= DEPRECATED_SETTINGS.keys()
    assert names <= known


@for_each(DEPRECATED_SETTINGS.items())
def test_each_deprecated_setting_is_described(name: str, field: str) -> None:
    assert f"| setting | `{name}` | `{variable(field)}` |" in UPGRADING.splitlines()
    assert f"| `{name}` | `{variable(field)}` |" in SETTINGS.splitlines()
    assert f"`{name}`" in CHANGELOG.partition("### Deprecated")[2].partition("### Added")[0]


def test_each_endpoint_is_told() -> None:
    for path, operations in create_app(Settings()).openapi()["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in TEXT, f"describe {path} under Endpoints"


@for_each(COMMANDS)
def test_each_command_is_told(command: str) -> None:
    assert f"`.venv/bin/python main.py {command}" in TEXT, f"describe {command} under Commands"


def test_each_metric_is_told_and_no_other(shared_service: httpx.Client) -> None:
    there = set(re.findall(r"^# TYPE (\w+) ", scrape(shared_service), re.MULTILINE))
    ours = {name for name in there if name.startswith(("analytics_", "http_"))}
    assert set(re.findall(r"`((?:analytics|http)_\w+)`", METRICS)) == ours


@pytest.mark.parametrize(("old_name", "name"), DEPRECATED_METRICS.items())
def test_each_deprecated_metric_is_described(
    shared_service: httpx.Client, old_name: str, name: str
) -> None:
    suffix = "_total" if f"\n# TYPE {old_name}_total counter\n" in scrape(shared_service) else ""
    assert f"| `{old_name}{suffix}` | `{name}{suffix}` |" in METRICS.splitlines()
    assert f"| metric | `{old_name}{suffix}` | `{name}{suffix}` |" in UPGRADING.splitlines()
    assert f"`{old_name}{suffix}`" in CHANGELOG.partition("### Deprecated")[2]


@pytest.mark.parametrize("target", ["run", "test"])
def test_the_two_commands_are_targets_of_make(target: str) -> None:
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    assert f"make {target}" in TEXT
