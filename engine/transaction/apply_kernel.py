"""The kernel's part of a change."""

from __future__ import annotations

from collections.abc import Sequence

from dnet.objects import inverse
from dnet.objects.grouping import ByKind, of_backend, of_kind
from dnet.objects.host import Flows
from dnet.objects.links import MovedDevice, Veth
from dnet.objects.sandbox import JoinedSandbox, Sandbox
from dnet.transaction.context import Context, Group


def kernel_part(group: Group) -> Group:
    """Return the objects of a group that the kernel has."""
    return [item for item in group if item.backend == "kernel"]


def joined_sandbox(group: Group) -> tuple[JoinedSandbox, ...]:
    """Return the sandbox of a container's group, to enter it; the group of a network has none."""
    return tuple(JoinedSandbox.of(item) for item in group if isinstance(item, Sandbox))


def create_in_kernel(context: Context, groups: Sequence[Group], *, keep_going: bool = False) -> None:
    """Create objects, raising the first failure; with `keep_going` after the other groups have been tried."""
    for error in context.kernel.create(groups, keep_going=keep_going) if any(groups) else ():
        if error:
            raise error


def leave_kernel(context: Context, gone: Sequence[Group], after: Sequence[Group], lost: ByKind) -> None:
    """Delete what containers lose: first inside their sandboxes, then devices of the host; `lost` is `gone` by kind."""
    if of_backend("kernel", lost):
        context.kernel.remove_inside(
            [inverse.of_change(joined_sandbox(group), old) for group, old in zip(after, gone, strict=True)]
        )
        context.kernel.sender.restore(of_kind(MovedDevice, lost))
        context.kernel.delete([of_kind(Veth, lost)])


def replace_flows(context: Context, lost: ByKind, come: ByKind) -> None:
    """Drop the tracked connections of addresses that are gone, and those that would bypass new rules."""
    old, new = of_kind(Flows, lost), of_kind(Flows, come)
    left = {address for item in new for address in item.addresses}
    dropped = tuple(address for item in old for address in item.addresses if address not in left)
    context.kernel.drop_flows([Flows(dropped, ())] if dropped else [], is_new=False)
    context.kernel.drop_flows(new, is_new=True)
