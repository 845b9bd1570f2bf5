"""What the pages point at exists: files, names in them, links, tables, routes, statuses."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from gorax_engine.api import paging, problems, stream
from gorax_engine.api.app import BASE, DOCS_PATH, OPENAPI_PATH
from gorax_engine.api.credentials import CredentialRoutes
from gorax_engine.api.events import EventRoutes
from gorax_engine.api.executions import ExecutionRoutes
from gorax_engine.api.notifications import NotificationRoutes
from gorax_engine.api.run_verbs import RunVerbRoutes
from gorax_engine.api.tasks import TaskRoutes
from gorax_engine.api.tenancy import TenancyRoutes
from gorax_engine.api.workflows import WorkflowRoutes
from gorax_engine.cli.serve import ROLES
from gorax_engine.telemetry import Telemetry

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PACKAGE: Final = ROOT / "src" / "gorax_engine"
PAGES: Final = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
# Quoted from another project, links and all.
QUOTED: Final = DOCS / "reference" / "database-schema.md"


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


ARCHITECTURE: Final = text_of("architecture.md")
API: Final = text_of("api.md")
PATH: Final = r"[\w./-]*(?:/|\.(?:py|sql|toml))"
"""In backticks: a folder with its slash, or a file."""


def found(path: str) -> Path | None:
    """Return where a path of the page leads: in the package, in the checkout, or beside the SQL functions."""
    places = (PACKAGE, ROOT, PACKAGE / "store" / "sql" / "functions")
    return next((place / path for place in places if (place / path).exists()), None)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headers, as GitHub makes them."""
    headers = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", header.lower()).replace(" ", "-") for header in headers}


@pytest.mark.parametrize("page", [page for page in PAGES if page != QUOTED], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        linked = page if not target else (page.parent / target).resolve()
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_the_index_lists_every_page() -> None:
    listed = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", text_of("README.md"))}
    pages = {page for page in DOCS.rglob("*.md") if page != DOCS / "README.md"}
    assert {page for page in pages if page not in listed and page.parent not in listed} == set()


def test_every_path_in_the_architecture_exists() -> None:
    paths = re.findall(rf"`({PATH})`", ARCHITECTURE)
    assert len(paths) > 80
    assert [path for path in paths if found(path) is None] == []


def test_every_name_in_the_architecture_stands_in_its_file() -> None:
    pairs = re.findall(rf"`({PATH})`\s+`(\w+)`", ARCHITECTURE)
    assert len(pairs) > 15
    for path, name in pairs:
        file = found(path)
        assert file is not None
        assert re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")), f"{path} has no {name}"


def test_every_package_has_its_place_in_the_house() -> None:
    house = ARCHITECTURE.partition("## The house")[2].partition("\n## ")[0]
    parts = {path.name for path in PACKAGE.iterdir() if path.name[0] not in "_." and path.name != "py.typed"}
    assert parts == {name.rstrip("/") for name in re.findall(r"`(\w+/|\w+\.py)`", house)}


def test_the_tables_of_the_engine_are_all_named() -> None:
    section = ARCHITECTURE.partition("## Tables that the engine adds")[2].partition("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    schema = (ROOT / "migrations" / "schema.sql").read_text(encoding="utf-8")
    tables = set(re.findall(r"^CREATE TABLE (\w+)", schema, re.MULTILINE))
    document = set(re.findall(r"CREATE TABLE (\w+)", QUOTED.read_text(encoding="utf-8")))
    assert named == tables - document


def test_the_roles_are_all_named() -> None:
    section = ARCHITECTURE.partition("## Roles")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(ROLES)


def test_the_routes_that_the_api_page_names_exist() -> None:
    parts: Any = cast("Any", SimpleNamespace)(
        database=None, verbs=None, ends=None, events=None, registry=None, draining=lambda: False, vault=None,
        admit=None, sealed=None, telemetry=Telemetry(),
    )  # fmt: skip
    routes = [*WorkflowRoutes(parts).endpoints(), *ExecutionRoutes(parts).endpoints()]
    routes += [*RunVerbRoutes(parts).endpoints(), *EventRoutes(parts).endpoints()]
    routes += [*TaskRoutes(parts).endpoints(), *NotificationRoutes(parts).endpoints()]
    routes += CredentialRoutes(parts).endpoints()
    routes += TenancyRoutes(parts, cast("Any", None)).endpoints()
    known = {(route.method, route.path) for route in routes}
    named = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[\w/{}-]+)`", API))
    assert len(named) > 4
    assert named <= known
    assert f"`{BASE}`" in API
    assert f"`{DOCS_PATH}`" in API
    assert f"`{OPENAPI_PATH}`" in API


def test_the_statuses_of_errors_are_all_named() -> None:
    section = API.partition("## Answers")[2].partition("\n## ")[0]
    statuses = {*problems._STATUS_BY_TYPE.values(), *problems._STATUS_BY_CODE.values(), 500}
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == statuses


def test_figures_of_the_api() -> None:
    assert f"({paging.DEFAULT_LIMIT}, at most {paging.MAX_LIMIT})" in API
    assert f"{stream.LONGEST / 60:.0f} minutes" in API
