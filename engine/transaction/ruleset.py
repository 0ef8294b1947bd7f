"""Whether nftables' rules are as networks need them; looked at when somebody may have changed them.

Needed is that dnet's table is whole, and that no chain of anybody's stops a network. Reading that takes 5 ms, most of
them to load the library; the kernel tells in 0.03 ms which generation of rules it has (nfnetlink, NFT_MSG_GETGEN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from dnet.drivers.nat_table import CHAINS, TABLE
from dnet.errors import DnetError
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.model.network import Network
from dnet.state.store import Store

WELL = "ruleset"  # the setting with the mark of rules that were seen to be well


class Ruleset:
    """What is known of the rules; `note` keeps it for the next process."""

    def __init__(self, store: Store, kernel: Kernel, nft: Nft, on_notice: Callable[[str], None]) -> None:
        self._store = store
        self._kernel = kernel
        self._nft = nft
        self._notice = on_notice
        self._is_whole = False
        self._clear = 0  # what `_now` was when they stopped no network

    def _now(self) -> int:
        """Return a number that our own transactions do not change, others' do; 0 for unknown."""
        mark = self._kernel.ruleset_generation(" ".join(sorted(CHAINS)))
        return mark and mark - self._nft.transactions

    def look(self) -> None:
        """Look at rules that have changed since they were seen to be well."""
        now = self._now()
        if now and now == self._store.setting(WELL):
            self._is_whole, self._clear = True, now
        else:
            self.make_way(is_thorough=False)

    def make_way(self, *, is_thorough: bool) -> None:
        """Look after other firewalls, and say which of them stop our networks."""
        from dnet.transaction import firewalls

        now, networks = self._now(), self._store.networks.all()
        sentences = firewalls.make_way(self._nft, networks, is_thorough=is_thorough) if networks else []
        for sentence in sentences:
            self._notice(sentence)
        self._clear = now if networks and not sentences else 0
        if networks:
            self.is_whole()

    def is_whole(self) -> bool:
        """Whether dnet's table has all its chains; one of an earlier version had fewer."""
        self._is_whole = self._is_whole or set(CHAINS) <= self._nft.chains(TABLE)
        return self._is_whole

    def withdraw(self, networks: Sequence[Network]) -> None:
        """Take back what was done to let networks through."""
        from dnet.transaction import firewalls

        firewalls.withdraw(self._nft, [network.device for network in networks])

    def note(self) -> None:
        """Note rules that were seen to be well, and have been changed by nobody else since."""
        if self._is_whole and self._clear and self._now() == self._clear:
            mark = self._clear + self._nft.transactions
            with suppress(DnetError):
                if self._store.setting(WELL) != mark:
                    with self._store.write(is_intent=True):
                        self._store.set_setting(WELL, mark)
