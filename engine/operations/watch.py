"""Changes that `dnet watch` follows: of the host's resolver, of foreign containers, and of leases."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from dnet.drivers import host_files
from dnet.errors import DnetError
from dnet.linux import watch_files
from dnet.model import lease
from dnet.model.attachment import Attachment
from dnet.model.container import Container
from dnet.operations import containers, leases, reattach
from dnet.operations.attachment_checks import label
from dnet.runtime import docker
from dnet.runtime.docker import Events
from dnet.transaction import containers as transaction_containers
from dnet.transaction.context import Context
from dnet.transaction.recovery import prepare

RENEWAL_TIMEOUT_S = 5.0  # others wait meanwhile


class Watching:
    """One run of `dnet watch`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._events: dict[str, Events] = {}
        # When to try again what could not be renewed, by the attachments' ids.
        self._tries: dict[str, float] = {}

    def run(self) -> Iterator[int]:
        """Yield how many files each change of the host's resolver rewrote."""
        prepare(self._context)
        sockets = [daemon.socket for daemon in docker.daemons() if daemon.socket]
        # What other processes change may be the first lease that is to be renewed.
        paths = (
            host_files.RESOLV_CONF,
            transaction_containers.SYSTEMD_RESOLV_CONF,
            *sockets,
            f"{self._context.store.operations}/any",
        )
        try:
            self._listen()
            self._refresh()
            for _ in watch_files.changes_of(paths, self._descriptors, self._pause_s):
                if self._listen() or self._has_news():
                    self._refresh()
                self._renew()
                yield containers.refresh_resolvers(self._context)
        finally:
            for events in self._events.values():
                events.close()

    def _descriptors(self) -> Sequence[int]:
        return [events.fileno() for events in self._events.values()]

    def _listen(self) -> bool:
        """Listen to Docker and Podman where they run; return whether one is new: its earlier events were missed."""
        is_new = False
        for daemon in docker.daemons():
            if daemon.socket and daemon.kind not in self._events:
                with suppress(DnetError):
                    self._events[daemon.kind] = Events(daemon)
                    is_new = True
        return is_new

    def _has_news(self) -> bool:
        """Return whether something has happened to a stored foreign container."""
        known = {item.target["reference"] for item in self._context.store.containers.foreign()}
        happened: set[str] = set()
        for kind, events in list(self._events.items()):
            with suppress(DnetError):
                happened.update(event.id for event in events.read())
            if not events.is_open:
                # `_listen` opens it again when its socket is there again.
                events.close()
                del self._events[kind]
        return not known.isdisjoint(happened)

    # Leases

    def _leased(self) -> list[tuple[float, Container, Attachment]]:
        """Return attachments whose leases expire, each with the time of renewal and its container."""
        leased = []
        for container in self._context.store.containers.all():
            for item in container.attachments:
                due = leases.due_at(lease.from_document(item.lease)) if item.lease else None
                if due is not None:
                    leased.append((self._tries.get(item.id, due), container, item))
        return leased

    def _pause_s(self) -> float | None:
        first = min((due for due, _, _ in self._leased()), default=None)
        return None if first is None else first - time.time()

    def _renew(self) -> None:
        for due, container, item in self._leased():
            if due > time.time():
                continue
            try:
                leases.renew(self._context, container, item, RENEWAL_TIMEOUT_S)
                self._tries.pop(item.id, None)
            except DnetError as error:
                self._tries[item.id] = leases.next_try_at(lease.from_document(item.lease))
                self._context.notice(f"the lease of {item.interface} of {label(container)} was not renewed: {error}")

    def _refresh(self) -> None:
        try:
            done = reattach.refresh(self._context)
        except DnetError as error:
            self._context.notice(str(error))
            return
        for item in done:
            self._context.notice(f"{item.what}: {item.error}" if item.error else f"seen to: {item.what}")
