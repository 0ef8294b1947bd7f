"""Interfaces of the host, by name or MAC address."""

from __future__ import annotations

from dnet.model.host_link import HostLink
from dnet.objects.observed import INFINIBAND, ObservedLink
from dnet.transaction.context import Context

NAME_CHARACTERS_MAX = 15


def find(context: Context, name: str) -> HostLink | None:
    """Return the interface of a name, or of a MAC address after `mac:`, if it is not a port; None if there is none."""
    link = _link(context, name)
    if link is None:
        return None
    return HostLink(link.name, link.kind == "bridge", context.switches.has_bridge(link), link.type == INFINIBAND)


def _link(context: Context, name: str) -> ObservedLink | None:
    if name.startswith("mac:"):
        mac = name.removeprefix("mac:").lower().replace("-", ":")
        return next((link for link in context.kernel.look().links() if link.mac == mac and not link.master), None)
    return context.kernel.link(name) if name and len(name) <= NAME_CHARACTERS_MAX else None
