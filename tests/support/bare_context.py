"""What `dnet.transaction.apply` needs of a Context: backends that a test chooses, and no store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from dnet.objects.object import Object

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
        refused=[],
        untold=set(),
    )
