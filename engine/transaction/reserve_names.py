"""Names of containers: given or random, free in the store and in the host's directories."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from dnet.drivers import desired
from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.linux import files
from dnet.transaction import identity
from dnet.transaction.context import Context

NAME_ATTEMPTS_MAX = 1000


class Names:
    """Names chosen inside transactions of one operation."""

    def __init__(self, context: Context) -> None:
        self._store = context.store
        # Where a container's name is a link: the directory -> that which the link leads into.
        self._directories = {
            desired.NAME_DIRECTORY: f"{context.run_directory}/netns",
            desired.ETC_DIRECTORY: f"{context.run_directory}/etc",
        }
        self._asked: set[str] = set()
        # Links under names asked for that lead to containers of this engine which are gone; the caller removes them.
        self.stale: set[str] = set()

    def keep(self, names: Iterable[str]) -> None:
        """Do not choose names that a later lot asks for."""
        self._asked.update(names)

    def choose(self, given: Sequence[str]) -> list[str]:
        """Return the given names, and a random one for each that is empty; raise as `check_free` does."""
        self.check_free([name for name in given if name])
        taken = {*given, *self._asked}
        chosen = []
        for name in given:
            chosen.append(name or self._random(taken))
            taken.add(chosen[-1])
        return chosen

    def check_free(self, wanted: Sequence[str]) -> None:
        """Raise Conflict when a container or somebody's network namespace has a name, InvalidRequest for one twice."""
        twice = [name for name, count in Counter(wanted).items() if count > 1]
        if twice:
            raise InvalidRequest(f"name {twice[0]} is given twice", object=twice[0], hint="names are unique")
        for name, holder in self._store.containers.held_names(wanted).items():
            hint = f"remove it with `dnet rm {name}`, or choose another name"
            raise Conflict(f"name {name} is in use by container {holder[:12]}", object=name, hint=hint)
        for directory, target in self._directories.items():
            for name in files.present(directory, wanted):
                self._check_stale(name, os.path.join(directory, name), target)

    def remove_stale(self) -> None:
        """Remove the stale links of the names chosen."""
        files.remove_links(self.stale)
        self.stale.clear()

    def _random(self, taken: set[str]) -> str:
        for attempt in range(NAME_ATTEMPTS_MAX):
            name = identity.readable(int.from_bytes(os.urandom(4)) % (identity.COUNT * (1 + attempt)))
            is_free = name not in taken and not self._store.containers.held_names([name])
            if is_free and not any(files.present(directory, [name]) for directory in self._directories):
                return name
        raise Exhausted("no free random name was found", hint="give names")

    def _check_stale(self, name: str, path: str, directory: str) -> None:
        target = os.path.realpath(path)
        if os.path.islink(path) and os.path.dirname(target) == directory and not os.path.exists(target):
            self.stale.add(path)
            return
        hint = f"remove it (`ip netns delete {name}`, if it is a namespace) if nothing needs it, or choose another name"
        raise Conflict(f"{path} exists and is not this engine's", object=name, hint=hint)
