"""The command group `link`."""

from __future__ import annotations

import click

from dnet import cli
from dnet.adapters import docker_json
from dnet.cli import Session, options, render


@click.group(cls=cli.Group)
def link() -> None:
    """List links between containers.

    \b
    Example:
      dnet create --link db:database web
      dnet link ls
    """


@link.command()
@options.json_option
@click.pass_obj
def ls(session: Session, *, as_json: bool) -> None:
    """List links: the parent, the child, the child's alias, and the ports that the parent reaches there.

    \b
    Example:
      dnet link ls --json
    """
    with session.open() as engine:
        rows = docker_json.link_rows(engine.containers())
    columns = {"PARENT": "parent", "CHILD": "child", "ALIAS": "alias", "PORTS": "ports"}
    render.listing(rows, columns, as_json=as_json)
