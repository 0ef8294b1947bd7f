"""What `dnet.transaction.apply` needs of a Context: backends that a test chooses, and no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from dnet.objects.object import Object
from dnet.transaction.apply import delete_groups
from dnet.transaction.rollback import reverting

# Of a host without VLANs: nothing is ever in the map.
NO_BPF = SimpleNamespace(delete_ports=list, remove=lambda: None)


def bare_context(
    kernel: Any,
    nft: Any,
    all_rules: Callable[[], Sequence[Object]] = tuple,
    bpf: Any = None,
    all_vlans: Callable[[], Sequence[Object]] = tuple,
    switch: Callable[[], Any] | None = None,
) -> Any:
    """Return a context of these backends; `all_rules` and `all_vlans` tell what there is when all is well."""
    return SimpleNamespace(
        kernel=kernel,
        nft=nft,
        bpf=bpf or NO_BPF,
        all_rules=all_rules,
        all_vlans=all_vlans,
        switches=SimpleNamespace(open=switch),
        refused_by_nftables=[],
        unknown_to_switch=set(),
    )


def roll_back(cause: BaseException, back: Callable[[], object], afterwards: Callable[[], object]) -> None:
    """Do what `reverting` does when its block raises `cause`."""
    with suppress(type(cause)), reverting(back, afterwards):
        raise cause


def undo(
    context: Any, cause: BaseException, groups: Sequence[Sequence[Object]], afterwards: Callable[[], object]
) -> None:
    """Delete groups whose creation has failed with `cause`, then call `afterwards`."""
    roll_back(cause, lambda: delete_groups(context, groups, is_rollback=True), afterwards)
