"""The command `plan`."""

from __future__ import annotations

import click

from dnet import cli
from dnet.cli import Session

PLANNABLE = (["create"], ["bulk-create"], ["network", "create"])


@click.command(cls=cli.Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def plan(session: Session, command: tuple[str, ...]) -> object:
    """Show what COMMAND would create, one object a line and in order. Nothing is changed.

    COMMAND is create, bulk-create or network create, with its arguments.

    \b
    Example:
      dnet plan create --network blue web
    """
    if not any(list(command[: len(words)]) == words for words in PLANNABLE):
        known = ", ".join(" ".join(words) for words in PLANNABLE)
        raise click.UsageError(f"there is no plan of `{' '.join(command)}`; plannable: {known}")
    session.is_plan = True
    with cli.cli.make_context("dnet", list(command), obj=session) as context:
        return cli.cli.invoke(context)
