"""`gorax node`: the node types of this installation, with those of plug-ins, from the code and without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from gorax_engine.cli.output import print_json, print_table
from gorax_engine.cli.session import Group, Session, pass_session
from gorax_engine.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gorax_engine.core.model import Json, NodeSpec
    from gorax_engine.nodes.plugins import Plugin
    from gorax_engine.settings import Settings

COLUMNS: Final = ("type", "kind", "package", "title")
ENGINE: Final = "gorax-engine"


@click.group(cls=Group, name="node")
def command() -> None:
    """List and describe node types."""


@command.command("list")
@pass_session
def list_types(session: Session) -> None:
    """List the node types, and load every plug-in that the settings allow."""
    rows = [
        {"type": spec.name, "aliases": list(spec.aliases), "kind": spec.kind.value, "package": package,
         "title": spec.title}
        for package, spec in _types(session.settings())
    ]  # fmt: skip
    if session.as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, ([row[name] for name in COLUMNS] for row in rows))


@command.command()
@click.argument("types", nargs=-1, metavar="[TYPE|PACKAGE]...")
@pass_session
def show(session: Session, types: tuple[str, ...]) -> None:
    """Describe node types, or all those of a package, as Markdown; without an argument, all."""
    from gorax_engine.nodes.reference import render_types

    known = list(_types(session.settings()))
    chosen = {spec.name: spec for name in types for spec in _chosen(name, known)} if types else dict(_named(known))
    if session.as_json:
        print_json([_described(spec) for spec in chosen.values()])
    else:
        print(render_types(chosen.values()), end="")


def loaded_plugins(settings: Settings) -> tuple[Plugin, ...]:
    """Load the plug-ins that the settings allow, to look at them. Raises ConfigurationError."""
    from gorax_engine.nodes.api import PluginResources
    from gorax_engine.nodes.egress import OutboundPolicy
    from gorax_engine.nodes.outbound import OutboundClient
    from gorax_engine.nodes.plugins import load_plugins

    policy = OutboundPolicy.read(allow=settings.outbound.allow, deny=settings.outbound.deny)
    return load_plugins(settings.nodes.plugins, PluginResources(OutboundClient(policy)))


def _types(settings: Settings) -> Iterator[tuple[str, NodeSpec]]:
    from gorax_engine.nodes.catalogue import builtin_specs

    for spec in builtin_specs():
        yield ENGINE, spec
    for plugin in loaded_plugins(settings):
        for node in plugin.nodes:
            yield plugin.package, node.spec


def _named(known: list[tuple[str, NodeSpec]]) -> Iterator[tuple[str, NodeSpec]]:
    for _package, spec in known:
        yield spec.name, spec


def _chosen(name: str, known: list[tuple[str, NodeSpec]]) -> list[NodeSpec]:
    found = [spec for package, spec in known if name in (package, spec.name, *spec.aliases)]
    if not found:
        raise NotFound(f"There is no node type or package {name!r} here; see `gorax node list`.", code="unknown_type")
    return found


def _described(spec: NodeSpec) -> dict[str, Json]:
    return {
        "type": spec.name,
        "aliases": list(spec.aliases),
        "kind": spec.kind.value,
        "title": spec.title,
        "description": spec.description,
        "schema": dict(spec.schema),
    }
