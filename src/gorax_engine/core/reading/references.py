"""Checks of what expressions refer to, as far as it can be known before a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from gorax_engine.core.config_template import Site
from gorax_engine.core.expressions import Reference
from gorax_engine.core.reading.document import Report
from gorax_engine.core.reading.drafts import DraftNode
from gorax_engine.core.schemas import Path
from gorax_engine.core.scopes import LOOP_STEP, catch_binding, loop_locals
from gorax_engine.core.structure import Part, Structure
from gorax_engine.core.validation import nearest

ROOTS: Final = ("trigger", "steps", "env", "vars", "credentials")
ENV_KEYS: Final = ("tenant_id", "execution_id", "workflow_id", "workflow_version", "started_at")

_BODY_SITES: Final = (("while",), ("break_conditions",))
"""Where a loop's own expressions see the steps of its body."""


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """Checks what expressions refer to, as far as it can be known before a run."""

    nodes: Sequence[DraftNode]
    index: Mapping[str, int]
    ancestors: Sequence[int] | None
    reachable: set[int]
    structure: Structure | None
    report: Report

    def check(self, site: Site, path: Path, node: DraftNode | None) -> None:
        if site.error is not None:
            message = f"This can't be read: {site.error.message} (at character {site.error.position + 1})."
            self.report.problem("invalid_expression", path, message)
        if site.expression is None:
            return
        names = site.locals | self._names(site, node)
        for reference in site.expression.references:
            if reference.root not in names:
                self._check_reference(reference, site, names, path, node)

    def _names(self, site: Site, node: DraftNode | None) -> frozenset[str]:
        """Return the names that the scopes around a node give to its expressions."""
        if node is None or self.structure is None:
            return frozenset()
        names: set[str] = set()
        chain = self.structure.chain(node.at)
        for scope, inner in pairwise(chain):
            names |= self._given(scope, self.structure.parts[self.structure.part_of[inner]])
        if node.type == "loop" and site.path[:1] in _BODY_SITES:
            names |= {*loop_locals(node.config or {}).values(), "loop"}
        return frozenset(names)

    def _given(self, scope: int, part: Part) -> set[str]:
        config = self.nodes[scope].config or {}
        if part.name == "catch" and self.nodes[scope].type == "try":
            return {catch_binding(config, part, [node.config or {} for node in self.nodes], self._types())}
        return {*loop_locals(config).values(), "loop"} if self.nodes[scope].type == "loop" else set()

    def _types(self) -> list[str]:
        return [node.type or "" for node in self.nodes]

    def _check_reference(
        self, reference: Reference, site: Site, names: frozenset[str], path: Path, node: DraftNode | None
    ) -> None:
        match reference.root:
            case "steps":
                if reference.path and isinstance(reference.path[0], str):
                    self._check_step(reference.path[0], site, path, node)
            case "env":
                if reference.path and reference.path[0] not in ENV_KEYS:
                    message = f"`env` has no `{reference.path[0]}`, only {', '.join(ENV_KEYS)}."
                    self.report.warning("unknown_reference", path, message)
            case "credentials":
                if not site.secrets:
                    message = (
                        "Credentials can't be used in this field, where they would leak: "
                        "use them in a field that takes secrets, such as `auth`."
                    )
                    self.report.problem("invalid_expression", path, message)
                elif not (reference.path and isinstance(reference.path[0], str)):
                    message = "Write which credential is meant: credentials.<name>, or credentials.<name>.<field>."
                    self.report.problem("invalid_expression", path, message)
            case "trigger" | "vars":
                pass
            case root:
                known = (*ROOTS, *sorted(names))
                similar = nearest(root, known)
                hint = f"did you mean `{similar[0]}`?" if similar else f"write \"'{root}'\" if plain text is meant."
                message = f"`{root[:100]}` is not known here, where there are {', '.join(known)}: {hint}"
                self.report.problem("unknown_reference", path, message)

    def _check_step(self, step: str, site: Site, path: Path, node: DraftNode | None) -> None:
        at = self.index.get(step)
        if at is None and step in self._loop_steps(node):
            return
        if at is None:
            similar = nearest(step, self.index)
            hint = f"did you mean `{similar[0]}`?" if similar else "correct the id."
            self.report.problem("unknown_reference", path, f"There is no step `{step[:255]}`: {hint}")
            return
        if node is None:
            loop = self._loop_around(at, ())
            if loop is not None:
                self.report.problem("not_before", path, self._in_loop(step, loop))
            return
        if node.at not in self.reachable:
            return
        message = self._reason(at, node, site)
        if message is not None:
            self.report.problem("not_before", path, message)

    def _loop_steps(self, node: DraftNode | None) -> set[str]:
        """Return what Gorax's workflows look up as steps in the body of a loop: its variables, and the loop itself."""
        if node is None or self.structure is None:
            return set()
        loops = [scope for scope in self.structure.chain(node.at)[:-1] if self.nodes[scope].type == "loop"]
        names = {name for loop in loops for name in loop_locals(self.nodes[loop].config or {}).values()}
        return {*names, LOOP_STEP} if loops else set()

    def _reason(self, step: int, node: DraftNode, site: Site) -> str | None:
        """Say why the output of a step can't be there when a node runs, or None if it can."""
        name, here = self.nodes[step].id, node.id
        late = (
            f"Step `{name}` doesn't come before `{here}`, so its output can't be used here: "
            "add a way of edges from it, or refer to another step."
        )
        if self.structure is None:
            return None if self._is_before(step, node.at) else late
        theirs, ours = self.structure.chain(step), self.structure.chain(node.at)
        shared = 0
        while shared < min(len(theirs), len(ours)) and theirs[shared] == ours[shared]:
            shared += 1
        if shared == len(theirs):
            return f"Step `{name}` is the scope that `{here}` is in: its output is there when all of it has ended."
        if shared == len(ours):
            inside = site.path[:1] in _BODY_SITES and node.type == "loop"
            loop = self._loop_around(step, theirs[:shared])
            if not inside:
                return late
            return None if loop is None else self._in_loop(name or "", loop)
        if not self._precedes(theirs[shared], ours[shared]):
            return late
        loop = self._loop_around(step, theirs[:shared])
        return None if loop is None else self._in_loop(name or "", loop)

    def _in_loop(self, step: str, loop: int) -> str:
        return (
            f"Step `{step}` runs in the loop `{self.nodes[loop].id}`, once in each iteration: "
            f"use `steps.{self.nodes[loop].id}.iterations`."
        )

    def _loop_around(self, step: int, shared: Sequence[int]) -> int | None:
        """Return the outermost loop around a step, but for the scopes that are shared."""
        if self.structure is None:
            return None
        chain = self.structure.chain(step)[len(shared) : -1]
        return next((scope for scope in chain if self.nodes[scope].type == "loop"), None)

    def _precedes(self, first: int, second: int) -> bool:
        """Say whether one node ends before the other runs; they are of one body, or of two bodies of one scope."""
        assert self.structure is not None
        one, two = (self.structure.parts[self.structure.part_of[node]] for node in (first, second))
        if one.number == two.number:
            return self._is_before(first, second)
        order = {"try": 0, "catch": 1, "finally": 2}
        is_try = one.owner is not None and self.nodes[one.owner].type == "try"
        return is_try and order[one.name] < order[two.name]

    def _is_before(self, first: int, second: int) -> bool:
        """Say whether one node comes before another; where nodes go in circles, all may."""
        return self.ancestors is None or bool(self.ancestors[second] >> first & 1)
