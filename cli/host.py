"""Commands for the host as a whole: reconcile, restore, doctor, watch."""

from __future__ import annotations

import click

from dnet import cli
from dnet.cli import Session, options, render, say


@click.command(cls=cli.Command)
@cli.option("--dry-run", is_flag=True, help="Only tell what is missing.")
@options.json_option
@click.pass_obj
def reconcile(session: Session, *, dry_run: bool, as_json: bool) -> int:
    """Compare networks, sandboxes, rules and files with the kernel, and create again what is missing.

    What a killed process left half done is finished or removed. A resolv.conf that follows the host's is updated.
    Exits 0 if nothing is left to do, 10 otherwise.

    \b
    Example:
      dnet reconcile --dry-run
      dnet reconcile
    """
    return _reconcile(session, "made again", dry_run=dry_run, as_json=as_json)


@click.command(cls=cli.Command)
@options.json_option
@click.pass_obj
def restore(session: Session, *, as_json: bool) -> int:
    """Create all networks, sandboxes, rules and files again after a reboot. packaging/dnet-restore.service runs this.

    \b
    Example:
      dnet restore
    """
    return _reconcile(session, "restored", dry_run=False, as_json=as_json)


def _reconcile(session: Session, verb: str, *, dry_run: bool, as_json: bool) -> int:
    with session.open() as engine:
        findings = engine.reconcile(dry_run=dry_run)
    succeeded = [item for item in findings if not item.error]
    left = findings if dry_run else [item for item in findings if item.error]
    if as_json:
        done = [] if dry_run else [item.what for item in succeeded]
        render.document({"done": done, "left": [{"what": item.what, "error": str(item.error or "")} for item in left]})
    else:
        for item in succeeded:
            click.echo(f"{'missing' if dry_run else verb}: {item.what}")
    for item in findings:
        if item.error:
            cli.fail(f"{item.what}: {item.error}", item.error.hint)
    return cli.EXIT_PARTLY if left else 0


@click.command(cls=cli.Command)
@options.json_option
@click.pass_obj
def doctor(session: Session, *, as_json: bool) -> int:
    """Examine the host: kernel, programs, limits, forwarding, other firewalls; tell a remedy for each finding.

    Nothing is changed. Exits 0 if dnet can work, 6 otherwise.

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


@click.command(cls=cli.Command)
@click.pass_obj
def watch(session: Session) -> None:
    """Keep containers' resolv.conf in step with the host's, until interrupted.

    Every container without --dns gets the new text at once, whether it runs or not; a file that somebody has edited is
    left alone. Foreign containers that restart are attached again, and leases are renewed.
    packaging/dnet-watch.service runs this.

    \b
    Example:
      dnet watch &
    """
    with session.open() as engine:
        try:
            for count in engine.watch():
                if count:
                    say(f"rewrote resolv.conf of {count} containers")
        except KeyboardInterrupt:
            return
