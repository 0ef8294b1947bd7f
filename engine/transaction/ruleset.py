"""Health of nftables' rules: dnet's table is complete, and no chain of others stops a network.

Reading all that takes 5 ms, most of them to load the library. The kernel tells in 0.03 ms which generation of rules it
has (nfnetlink, NFT_MSG_GETGEN), so that rules are read only when somebody else may have changed them.
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

HEALTHY_GENERATION = "ruleset"  # the setting with the generation of the last ruleset found healthy


class Ruleset:
    """What one engine knows of the rules. `remember` stores it for the next process."""

    def __init__(self, store: Store, kernel: Kernel, nft: Nft, on_notice: Callable[[str], None]) -> None:
        self._store = store
        self._kernel = kernel
        self._nft = nft
        self._notice = on_notice
        self._is_complete = False
        self._healthy = 0  # the generation, by `_generation`, in which no chain stopped a network; 0 for none

    def _generation(self) -> int:
        """Return the generation without this engine's own transactions, so that only others change it; 0: unknown."""
        generation = self._kernel.ruleset_generation(" ".join(sorted(CHAINS)))
        return generation and generation - self._nft.transactions

    def look(self) -> None:
        """Read the rules if they have changed since they were found healthy."""
        now = self._generation()
        if now and now == self._store.setting(HEALTHY_GENERATION):
            self._is_complete, self._healthy = True, now
        else:
            self.let_through(is_thorough=False)

    def let_through(self, *, is_thorough: bool) -> None:
        """Let networks through other firewalls as `firewalls.let_through` does; say which chains stop them still."""
        from dnet.transaction import firewalls

        now, networks = self._generation(), self._store.networks.all()
        sentences = firewalls.let_through(self._nft, networks, is_thorough=is_thorough) if networks else []
        for sentence in sentences:
            self._notice(sentence)
        self._healthy = now if networks and not sentences else 0
        if networks:
            self.is_complete()

    def is_complete(self) -> bool:
        """Whether dnet's table has all its chains; that of an earlier version had fewer."""
        self._is_complete = self._is_complete or set(CHAINS) <= self._nft.chains(TABLE)
        return self._is_complete

    def withdraw(self, networks: Sequence[Network]) -> None:
        """Remove the rules that let networks through."""
        from dnet.transaction import firewalls

        firewalls.withdraw(self._nft, [network.device for network in networks])

    def remember(self) -> None:
        """Store the generation of healthy rules, unless somebody else has changed them since."""
        if self._is_complete and self._healthy and self._generation() == self._healthy:
            generation = self._healthy + self._nft.transactions
            with suppress(DnetError):
                if self._store.setting(HEALTHY_GENERATION) != generation:
                    with self._store.write(is_intent=True):
                        self._store.set_setting(HEALTHY_GENERATION, generation)
