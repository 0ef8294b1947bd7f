"""Leases of attachments: addresses by DHCP, acquired, renewed and released."""

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
    """Acquire a lease for an attachment that has none, and give the interface its address and gateway."""
    from dnet.linux import dhcp

    mark_changing(context, container)
    name = container.name.rpartition(":")[2]
    is_hostname = HOSTNAME_PATTERN.match(name) and len(name) <= HOSTNAME_CHARACTERS_MAX
    hostname = item.hostname or (name if is_hostname else "")
    try:
        lease = dhcp.acquire(container.sandbox, item.interface, hostname=hostname, previous=previous)
        return _apply(context, container, item, lease)
    finally:
        with context.store.write():
            context.store.set_phase("container", [container.id], "ready")


def renew(context: Context, container: Container, item: Attachment, timeout_s: float) -> Container:
    """Renew a lease, and change the interface where the lease has changed. Raises after `timeout_s`."""
    from dnet.linux import dhcp

    lease = dhcp.renew(container.sandbox, item.interface, from_document(item.lease), timeout_s=timeout_s)
    return _apply(context, container, item, lease)


def release(container: Container, item: Attachment) -> None:
    """Give a lease back, best effort: the server does not answer, and a lease that it keeps expires."""
    if item.lease:
        from dnet.linux import dhcp

        try:
            dhcp.release(container.sandbox, item.interface, from_document(item.lease))
        except DnetError:
            return


def _apply(context: Context, container: Container, item: Attachment, lease: Lease) -> Container:
    container = context.store.containers.reread(container.id)
    leased = next((replace(one, lease=lease.document()) for one in container.attachments if one.id == item.id), None)
    if leased is None:
        return container  # it has been detached meanwhile
    if leased.default_gateways and not leased.gateway_priority:
        leased = replace(leased, gateway_priority=gateway_priority(container, is_default=True))
    attachments = tuple(leased if one.id == item.id else one for one in container.attachments)
    inside = look_into(context, container)
    with changing(context, [container]):
        check_unchanged(context, [container])
        after = choose_default_routes(
            context, [(container, replace(container, attachments=attachments))], {container.id: inside}
        )
    return change_or_revert(context, [container], after)[0]


def due_at(lease: Lease) -> float | None:
    """Return when a lease is to be renewed, in seconds since the epoch; None if it never expires."""
    return None if lease.t1_s is None else lease.acquired_at + lease.t1_s


def next_try_at(lease: Lease) -> float:
    """Return when to retry a failed renewal: after half of the remaining time, at least a minute (RFC 2131, 4.4.5)."""
    left_s = lease.acquired_at + (lease.lease_time_s or 0) - time.time()
    return time.time() + max(left_s / 2, 60.0)
