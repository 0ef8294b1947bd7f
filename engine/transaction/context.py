"""What all operations of one engine share: store, kernel, nftables, BPF, Open vSwitch, runtime, notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from dnet.drivers import desired
from dnet.drivers.nat_table import TABLE
from dnet.errors import DnetError
from dnet.linux.bpf import Bpf
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.objects.object import Object
from dnet.state.store import Store
from dnet.transaction.ruleset import Ruleset

if TYPE_CHECKING:
    from dnet.openvswitch.switch import OpenVSwitch
    from dnet.runtime.process import Runtime
    from dnet.transaction.switch import Switches


Group = Sequence[Object]


class Context:
    """The backends of one engine, and what it remembers between its changes."""

    def __init__(
        self,
        store: Store,
        state_directory: str,
        run_directory: str,
        notice: Callable[[str], None],
        kernel: Kernel | None = None,
        nft: Nft | None = None,
        switch: OpenVSwitch | None = None,
    ) -> None:
        """Share the store of an engine. `kernel`, `nft` and `switch` are for tests."""
        self.store = store
        self.state_directory = state_directory
        self.run_directory = run_directory
        self.notice = notice
        self.kernel = kernel or Kernel(notice)
        self.nft = nft or Nft()
        self.bpf = Bpf(f"{run_directory}/bpf")
        self.ruleset = Ruleset(store, self.kernel, self.nft, notice)
        self._switch = switch
        self.is_prepared = False
        # What killed processes left half done and could not be finished, each with the reason.
        self.left_over: list[tuple[str, DnetError]] = []
        # Until a creation that failed is rolled back: the groups whose nftables transaction was refused. None of their
        # elements exist; elements with their keys are others'.
        self.refused_by_nftables: list[Group] = []
        # Likewise, the groups (by `id`) that Open vSwitch knows nothing of, so that a rollback need not ask it.
        self.unknown_to_switch: set[int] = set()

    def close(self) -> None:
        """Close the sockets."""
        self.ruleset.remember()
        self.kernel.close()
        self.nft.close()
        self.bpf.close()
        if "switches" in vars(self):
            self.switches.close()

    # Most commands need neither of these.

    @cached_property
    def switches(self) -> Switches:
        """The Open vSwitch that networks are on."""
        from dnet.transaction.switch import Switches

        return Switches(self.store, self.kernel, self._switch)

    @cached_property
    def runtime(self) -> Runtime:
        """The processes of containers."""
        from dnet.runtime.process import Runtime

        return Runtime(self.state_directory, self.run_directory)

    def all_rules(self) -> Group:
        """Return everything that belongs into the nftables table, to restore it after somebody has removed it."""
        if self.nft.has_table(TABLE):
            self.notice(f"brought table {TABLE} up to date")
        else:
            self.notice(f"made table {TABLE} again, which somebody had removed")
        return desired.rules(self.store.networks.all(), self.store.containers.all())

    def all_vlans(self) -> Group:
        """Return everything that belongs into the VLAN map and at the bridges."""
        networks = self.store.networks.by_id()
        return desired.vlans(networks.values(), self.store.containers.all())
