"""`gorax workflow test`: runs the cases of test files, with no server, no database and no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gorax_engine.cli import exits
from gorax_engine.cli.output import print_error, print_json, printable
from gorax_engine.cli.session import Command, Session, pass_session
from gorax_engine.cli.workflow_files import STDIN, BadFile, Documents, WorkflowFile, parse, read_text, read_workflows
from gorax_engine.errors import Problem

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.core.plan import Plan
    from gorax_engine.nodes.catalogue import Catalogue
    from gorax_engine.settings import Settings
    from gorax_engine.workflows.testing import Attempt, Case, Mismatch, Simulated, Suite, Surroundings

SHOWN: Final = 100
"""Characters of an output in the list of steps."""


class BadCases(BadFile):
    """A test file, or the workflow that it tests, is wrong; `problems` lists every fault with its file."""

    code = "invalid_test"


@dataclass(frozen=True, slots=True)
class TestFile:
    """A test file that was read: its cases, and the workflow that they run."""

    path: Path
    plan: Plan
    suite: Suite


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case."""

    case: Case
    run: Simulated
    mismatches: Sequence[Mismatch]


@click.command(cls=Command, name="test")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE...",
)
@click.option("--case", "named", metavar="NAME", help="Only cases whose names contain this.")
@click.option("--verbose", "-v", is_flag=True, help="Show every step of every case.")
@pass_session
def command(session: Session, files: tuple[Path, ...], named: str | None, verbose: bool) -> int:
    """Run the cases of test files: exit 0 if all pass, 1 if one fails, 2 if a file or its workflow is wrong."""
    settings = session.settings()
    types, nodes = _node_types(settings)
    tests = _read_all(files, types)
    if tests is None:
        return exits.USAGE
    chosen = [(test, [case for case in test.suite.cases if _is_named(case, named)]) for test in tests]
    if not any(cases for _, cases in chosen):
        raise click.UsageError(f"No case's name contains {named!r}.")
    import anyio

    verdicts = anyio.run(_run, chosen, nodes, settings)
    if session.as_json:
        print_json([_as_json(test, judged, verbose=verbose) for test, judged in verdicts])
    else:
        _print(verdicts, verbose=verbose)
    passed = all(not verdict.mismatches for _, judged in verdicts for verdict in judged)
    return exits.OK if passed else exits.FAILED


def _is_named(case: Case, named: str | None) -> bool:
    return named is None or named.lower() in case.name.lower()


# --- reading ----------------------------------------------------------------------------------------------------------


def _node_types(settings: Settings) -> tuple[Catalogue, Any]:
    """Return the node types by which definitions are read, and those that are evaluated. Raises ConfigurationError."""
    from gorax_engine.cli.node import loaded_plugins
    from gorax_engine.nodes.catalogue import Catalogue, builtin_specs
    from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes

    added = [node for plugin in loaded_plugins(settings) for node in plugin.nodes]
    types = Catalogue([*builtin_specs(), *(node.spec for node in added)])
    return types, NodeRegistry([*builtin_nodes(), *added])


def _read_all(files: Sequence[Path], types: Catalogue) -> list[TestFile] | None:
    """Read all files; print the faults of each, and return None if there are any."""
    tests: list[TestFile] = []
    for path in files:
        try:
            tests.append(read_test(path, types))
        except BadFile as error:
            print_error(error.message, error.code, error.problems)
    return tests if len(tests) == len(files) else None


def read_test(path: Path, types: Catalogue) -> TestFile:
    """Read a test file and its workflow. Raises BadFile with every fault."""
    from gorax_engine.core.plan import compile_plan
    from gorax_engine.core.reading import read
    from gorax_engine.errors import InvalidDefinition
    from gorax_engine.workflows.testing import read_suite, shape_faults

    document = parse(path, read_text(path))
    if isinstance(document, Documents):
        raise BadCases(f"{path} has several documents; a test file is one.")
    if faults := shape_faults(document):
        raise _refusal(path, _located(path, faults))
    workflow = _workflow(path, document["workflow"])
    reading = read(workflow.whole_definition(), types)
    try:
        if reading.definition is None:
            raise InvalidDefinition(reading.problems)
        plan = compile_plan(reading.definition, types.specs)
    except InvalidDefinition as error:
        problems = workflow.locate(error.problems, in_definition=True)
        raise BadCases(f"The workflow of {path} has faults.", problems=problems) from error
    if not plan.triggers:
        raise BadCases(f"The workflow of {path} has no trigger, so that nothing starts it.")
    suite, faults = read_suite(document, plan)
    if suite is None:
        raise _refusal(path, _located(path, faults))
    return TestFile(path, plan, suite)


def _located(path: Path, problems: Sequence[Problem]) -> list[Problem]:
    return [Problem(each.code, f"{path}#{each.pointer}", each.message) for each in problems]


def _refusal(path: Path, problems: Sequence[Problem]) -> BadCases:
    return BadCases(f"{path} is not a test file.", problems=problems)


def _workflow(path: Path, given: Json) -> WorkflowFile:
    """Return the workflow that a test file names or holds. Raises BadFile."""
    if isinstance(given, dict) and "definition" in given:
        return WorkflowFile(
            path, "/workflow", given.get("name", "inline"), given["definition"], None, given.get("settings")
        )
    name = given.get("name") if isinstance(given, dict) else None
    file = Path(given["file"] if isinstance(given, dict) else given)
    found = read_workflows(file if path == STDIN else path.parent / file)
    fitting = [workflow for workflow in found if name in (None, workflow.name)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(repr(workflow.name) for workflow in found)
    what = f"has no workflow {name!r}, but {known}" if name else f"has several workflows, so name one: {known}"
    message = f"{file} {what}: write `workflow: {{file: ..., name: ...}}`."
    raise _refusal(path, [Problem("invalid_case", f"{path}#/workflow", message)])


# --- running ----------------------------------------------------------------------------------------------------------


async def _run(
    chosen: Sequence[tuple[TestFile, Sequence[Case]]], nodes: Any, settings: Settings
) -> list[tuple[TestFile, list[Verdict]]]:
    from gorax_engine.nodes.sandbox.pool import Sandbox, SandboxOptions
    from gorax_engine.nodes.tasks.code import Code
    from gorax_engine.people.forms import fill_in
    from gorax_engine.workflows.testing import Surroundings

    async with Sandbox(SandboxOptions(processes=1, heap=settings.code.memory_limit)) as sandbox:
        surroundings = Surroundings(nodes, fill_in, Code(sandbox))
        return [(test, [await _verdict(test, case, surroundings) for case in cases]) for test, cases in chosen]


async def _verdict(test: TestFile, case: Case, surroundings: Surroundings) -> Verdict:
    from gorax_engine.workflows.testing import judge, simulate

    run = await simulate(test.plan, case, surroundings)
    return Verdict(case, run, judge(case, run))


# --- telling ----------------------------------------------------------------------------------------------------------


def _print(verdicts: Sequence[tuple[TestFile, Sequence[Verdict]]], *, verbose: bool) -> None:
    from gorax_engine.workflows.testing import shown_duration

    passed = failed = 0
    for test, judged in verdicts:
        if not judged:
            continue
        print(test.path)
        for verdict in judged:
            run, is_good = verdict.run, not verdict.mismatches
            passed, failed = passed + is_good, failed + (not is_good)
            steps = sum(attempt.ran for attempt in run.trace.attempts.values())
            count = f"{steps} step{'s' if steps != 1 else ''}, {shown_duration(run.duration)}"
            print(f"  {'ok  ' if is_good else 'FAIL'}  {printable(verdict.case.name)} ({count})")
            for mismatch in verdict.mismatches:
                first, *more = mismatch.message.splitlines()
                print(f"          {printable(mismatch.pointer)}: {printable(first)}")
                for line in more:
                    print(f"            {printable(line)}")
            if verbose:
                for line in _step_lines(run):
                    print(f"        {line}")
    print(f"{passed} passed, {failed} failed")


def _step_lines(run: Simulated) -> Iterator[str]:
    """Yield a line for each attempt: when, where, how it ended; indented by the depth of its path."""
    rows = [(_moment(run, attempt), attempt) for attempt in run.trace.attempts.values()]
    width = max((len(moment) for moment, _ in rows), default=0)
    for moment, attempt in rows:
        depth = "  " * attempt.step.path.count("[") if attempt.step.path else ""
        number = f" #{attempt.number}" if attempt.number > 1 else ""
        mocked = " (mocked)" if attempt.mocked else ""
        place = printable(attempt.place)
        print_state = attempt.state.value.ljust(9)
        yield f"{moment.rjust(width)}  {print_state}  {depth}{place}{number}{mocked}{_result(attempt)}"


def _moment(run: Simulated, attempt: Attempt) -> str:
    from gorax_engine.workflows.testing import shown_duration

    at = attempt.started if attempt.started is not None else attempt.ended
    return "" if at is None else f"+{shown_duration(at - run.started)}"


def _result(attempt: Attempt) -> str:
    if attempt.error is not None:
        return f": {printable(attempt.error.code)}: {printable(attempt.error.message)}"
    if attempt.ended is None or not attempt.ran:
        return ""
    text = printable(attempt.output)
    outcome = f" [{printable(attempt.outcome)}]" if attempt.outcome else ""
    return f"{outcome}: {text if len(text) <= SHOWN else text[:SHOWN] + '…'}"


def _as_json(test: TestFile, judged: Sequence[Verdict], *, verbose: bool) -> Json:
    return {"file": str(test.path), "cases": [_case_as_json(verdict, verbose=verbose) for verdict in judged]}


def _case_as_json(verdict: Verdict, *, verbose: bool) -> Json:
    from gorax_engine.core.model import SECOND

    run = verdict.run
    told: dict[str, Json] = {
        "name": verdict.case.name,
        "passed": not verdict.mismatches,
        "status": None if run.end is None else run.end.status.value,
        "output": None if run.end is None else run.end.output,
        "error_code": None if run.end is None or run.end.error is None else run.end.error.code,
        "duration_seconds": run.duration / SECOND,
        "mismatches": [{"pointer": each.pointer, "message": each.message} for each in verdict.mismatches],
    }
    if verbose:
        told["steps"] = [
            {
                "step": attempt.place,
                "type": attempt.type,
                "attempt": attempt.number,
                "status": attempt.state.value,
                "outcome": attempt.outcome,
                "mocked": attempt.mocked,
                "input": attempt.given,
                "output": attempt.output,
                "error": None
                if attempt.error is None
                else {"code": attempt.error.code, "message": attempt.error.message},
            }
            for attempt in run.trace.attempts.values()
        ]
    return told
