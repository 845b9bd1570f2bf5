"""Making packages that look installed: their modules and their metadata in a folder of the import path."""

import importlib
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from textwrap import dedent
from typing import Final

EXAMPLE: Final = Path(__file__).parents[2] / "docs" / "examples" / "gorax-node-example"


def write_package(site: Path, package: str, entries: Mapping[str, str], source: str, version: str = "1.0") -> None:
    """Write a package of one module (its name with underscores) with these entry points into `site`."""
    module = package.replace("-", "_")
    (site / f"{module}.py").write_text(dedent(source), encoding="utf-8")
    write_metadata(site, package, version, entries)


def write_metadata(site: Path, package: str, version: str, entries: Mapping[str, str]) -> None:
    """Write what an installer writes of a package: its name, version and entry points."""
    info = site / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", encoding="utf-8")
    lines = ["[gorax_engine.nodes]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def install_example(site: Path) -> str:
    """Install the example of the documentation, as its pyproject.toml says; return its name."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    copytree(EXAMPLE / "src", site, dirs_exist_ok=True)
    write_metadata(site, project["name"], project["version"], project["entry-points"]["gorax_engine.nodes"])
    return str(project["name"])


@contextmanager
def importable(site: Path) -> Iterator[Path]:
    """Put a folder on the import path, and take it off again with all that was imported from it."""
    before = set(sys.modules)
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    try:
        yield site
    finally:
        sys.path.remove(str(site))
        importlib.invalidate_caches()
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(site):
                del sys.modules[name]
