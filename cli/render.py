"""Output for people and for scripts: tables, names, JSON documents, progress bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell, as `docker ps` does."""
    lines: list[Sequence[str]] = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def document(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=4))


def listing(documents: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool) -> None:
    """Print documents as JSON, or some of their fields as a table; `columns` are field names by column title."""
    if as_json:
        document(documents)
        return
    table(list(columns), [[_cell(item[field]) for field in columns.values()] for item in documents])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(value) if isinstance(value, list) else str(value)


def inspection(documents: Sequence[Mapping[str, Any]], template: str) -> None:
    """Print documents as one JSON list, or each by Docker's template."""
    if not template:
        document(documents)
        return
    from dnet.adapters import docker_json

    for item in documents:
        click.echo(docker_json.render(template, item))


def names(key: str, items: Sequence[str], *, as_json: bool) -> None:
    """Print names one a line, or as one document under `key`."""
    if as_json:
        document({key: list(items)})
        return
    for item in items:
        click.echo(item)


def objects(items: Sequence[Any], *, as_json: bool) -> None:
    """Print the objects of a plan, one a line."""
    if as_json:
        document([{"kind": item.kind, "object": str(item)} for item in items])
        return
    for item in items:
        click.echo(str(item))


@contextmanager
def progress(label: str, *, is_wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that draws a progress bar on stderr, or None if that is no terminal or no bar is wanted."""
    if not is_wanted or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=True) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield advance
        bar.update((bar.length or 0) - bar.pos)
