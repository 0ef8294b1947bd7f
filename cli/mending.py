"""reconcile, restore, doctor."""

from __future__ import annotations

import click

from dnet import cli
from dnet.cli import Session, render


@click.command(cls=cli.Command)
@cli.option("--dry-run", is_flag=True, help="Only say what is missing.")
@render.json_option
@click.pass_obj
def reconcile(session: Session, *, dry_run: bool, as_json: bool) -> int:
    """Compare networks, sandboxes, rules and files with what there is, and make again what is missing.

    What a killed process left half done is finished or removed; a resolv.conf that follows the host's is brought up to
    date. Exits 0 when nothing is left to do, 10 when something is.

    \b
    Example:
      dnet reconcile --dry-run
      dnet reconcile
    """
    return _reconcile(session, "made again", is_dry_run=dry_run, as_json=as_json)


@click.command(cls=cli.Command)
@render.json_option
@click.pass_obj
def restore(session: Session, *, as_json: bool) -> int:
    """Build everything again after a reboot: networks, sandboxes, rules, files. packaging/dnet-restore.service runs it.

    \b
    Example:
      dnet restore
    """
    return _reconcile(session, "restored", is_dry_run=False, as_json=as_json)


def _reconcile(session: Session, verb: str, *, is_dry_run: bool, as_json: bool) -> int:
    with session.open() as engine:
        findings = engine.reconcile(is_dry_run=is_dry_run)
    failed = [item for item in findings if item.error]
    left = findings if is_dry_run else failed
    if as_json:
        render.document(
            {
                "done": [] if is_dry_run else [item.what for item in findings if not item.error],
                "left": [{"what": item.what, "error": str(item.error or "")} for item in left],
            }
        )
    else:
        for item in findings:
            if not item.error:
                click.echo(f"{'missing' if is_dry_run else verb}: {item.what}")
    for item in failed:
        if item.error:
            cli.fail(f"{item.what}: {item.error}", item.error.hint)
    return cli.EXIT_PARTLY if left else 0


@click.command(cls=cli.Command)
@render.json_option
@click.pass_obj
def doctor(session: Session, *, as_json: bool) -> int:
    """Look at the host: kernel, programs, limits, forwarding, other firewalls; each finding with its remedy.

    Nothing is changed. Exits 0 when nothing is in the way, else 6.

    \b
    Example:
      dnet doctor
    """
    with session.open() as engine:
        findings = engine.doctor()
    if as_json:
        render.document([item._asdict() for item in findings])
    else:
        for item in findings:
            click.echo(f"{item.level:6}  {item.about}: {item.sentence}")
            if item.remedy:
                click.echo(f"        {item.remedy}")
    return cli.EXIT_UNSUPPORTED if any(item.level == "blocks" for item in findings) else 0
