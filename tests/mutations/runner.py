"""Mutations as values, and a copy of the tree in which they are tried."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TIMEOUT: Final = 300.0
"""Seconds for the tests of one mutation; a test that hangs has noticed it, too."""
COPIED: Final = ("src", "tests", "migrations", "config", "docs", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Mutation:
    """One change: the text `old` becomes `new` in `file`. `old` must occur once, or `nth` (from 1) says which."""

    file: str
    old: str
    new: str
    nth: int = 0
    equivalent: str = ""
    tests: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The change on one line."""
        return f"{_short(self.old)}  ->  {_short(self.new)}"

    def offset(self, text: str) -> int:
        """Where the change is; raises ValueError if that isn't clear."""
        places = [found.start() for found in re.finditer(re.escape(self.old), text)]
        if not places or (len(places) > 1 and not self.nth):
            raise ValueError(f"{self.file}: {len(places)} places have {self.old!r}")
        return places[max(self.nth - 1, 0)]

    def place(self, root: Path) -> str:
        """File and line of the change."""
        text = (root / self.file).read_text()
        return f"{self.file}:{text.count(chr(10), 0, self.offset(text)) + 1}"

    def applied(self, text: str) -> str:
        """The file's text with the change."""
        at = self.offset(text)
        return text[:at] + self.new + text[at + len(self.old) :]


@dataclass(frozen=True)
class MutationPlan:
    """What to mutate and which tests must notice."""

    tests: tuple[str, ...]
    files: tuple[str, ...]
    mutations: tuple[Mutation, ...]


def read_plan(path: Path) -> MutationPlan:
    """Read a plan: `tests`, `files` (for drawn mutations) and `[[mutation]]` tables."""
    raw = tomllib.loads(path.read_text())
    mutations = tuple(Mutation(**{**each, "tests": tuple(each.get("tests", ()))}) for each in raw.get("mutation", ()))
    return MutationPlan(tuple(raw["tests"]), tuple(raw.get("files", ())), mutations)


class Tree:
    """A copy of the tree at `folder`, on which tests run with the interpreter of this process."""

    def __init__(self, root: Path, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / name)
        where = self._run("-c", "import gorax_engine; print(gorax_engine.__file__)").stdout.strip()
        if not where.startswith(str(folder)):
            raise RuntimeError(f"the copy would test {where}")

    def killer(self, mutation: Mutation, tests: tuple[str, ...]) -> str | None:
        """Apply a mutation, run the tests, take it back. Return what noticed it, or None if nothing did."""
        file = self.folder / mutation.file
        text = file.read_text()
        try:
            file.write_text(mutation.applied(text))
            return self.failing(mutation.tests or tests)
        finally:
            file.write_text(text)

    def failing(self, tests: tuple[str, ...]) -> str | None:
        """Return the first test that fails, or None."""
        # Failures that hypothesis remembers of other mutations would flatter the tests.
        shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)
        options = ("-x", "-q", "-n0", "--no-header", "-p", "no:cacheprovider", f"--hypothesis-seed={self.seed}")
        try:
            done = self._run("-m", "pytest", *options, *tests)
        except subprocess.TimeoutExpired:
            return "a timeout"
        if done.returncode == 0:
            return None
        found = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", done.stdout, re.MULTILINE)
        return found[1] if found else (done.stdout + done.stderr)[-500:]

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"{line[:90]}…" if len(line) > 90 else line or "(nothing)"
