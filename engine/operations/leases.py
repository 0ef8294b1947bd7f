"""Addresses by DHCP for attachments: got, kept, given back."""

from __future__ import annotations

import time

from dnet.errors import DnetError
from dnet.model.attachment import Attachment
from dnet.model.container import Container
from dnet.model.lease import Lease, from_document
from dnet.model.parse import HOSTNAME_CHARACTERS_MAX, HOSTNAME_PATTERN
from dnet.model.values import replace
from dnet.operations.inside import (
    changing,
    check_unchanged,
    choose_default_routes,
    gateway_priority,
    look_into,
    mark_changing,
)
from dnet.transaction.containers import change_or_revert
from dnet.transaction.context import Context


def acquire(context: Context, container: Container, item: Attachment, previous: Lease | None = None) -> Container:
    """Get a lease for an attachment that has none, and give the interface what it grants."""
    from dnet.linux import dhcp

    mark_changing(context, container)
    name = container.name.rpartition(":")[2]
    is_hostname = HOSTNAME_PATTERN.match(name) and len(name) <= HOSTNAME_CHARACTERS_MAX
    hostname = item.hostname or (name if is_hostname else "")
    try:
        lease = dhcp.acquire(container.sandbox, item.interface, hostname=hostname, previous=previous)
        return _take(context, container, item, lease)
    finally:
        with context.store.write():
            context.store.set_phase("container", [container.id], "ready")


def renew(context: Context, container: Container, item: Attachment, timeout_s: float) -> Container:
    """Go on with a lease; what changes with it changes on the interface."""
    from dnet.linux import dhcp

    lease = dhcp.renew(container.sandbox, item.interface, from_document(item.lease), timeout_s=timeout_s)
    return _take(context, container, item, lease)


def release(container: Container, item: Attachment) -> None:
    """Give a lease back. The server is not asked whether it has heard; a lease that it keeps runs out."""
    if item.lease:
        from dnet.linux import dhcp

        try:
            dhcp.release(container.sandbox, item.interface, from_document(item.lease))
        except DnetError:
            return


def _take(context: Context, container: Container, item: Attachment, lease: Lease) -> Container:
    container = context.store.containers.reread(container.id)
    found = [one for one in container.attachments if one.id == item.id]
    if not found:
        return container  # it has been detached meanwhile
    leased = replace(found[0], lease=lease.document())
    if leased.default_gateways and not leased.gateway_priority:
        leased = replace(leased, gateway_priority=gateway_priority(container, is_default=True))
    others = tuple(leased if one.id == item.id else one for one in container.attachments)
    inside = look_into(context, container)
    with changing(context, [container]):
        check_unchanged(context, [container])
        after = choose_default_routes(
            context, [(container, replace(container, attachments=others))], {container.id: inside}
        )
    return change_or_revert(context, [container], after)[0]


def due_at(lease: Lease) -> float | None:
    """Return when a lease is to be renewed, seconds since the epoch; None for one that is for ever."""
    return None if lease.t1_s is None else lease.acquired_at + lease.t1_s


def next_try_at(lease: Lease) -> float:
    """Return when to try again after a renewal that failed: half of what is left, a minute at least.

    RFC 2131, section 4.4.5.
    """
    left_s = lease.acquired_at + (lease.lease_time_s or 0) - time.time()
    return time.time() + max(left_s / 2, 60.0)
