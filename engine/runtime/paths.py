"""Where a container's process has its things, and what they tell of it.

STATE/containers/ID12/   config.json, and rootfs/ where the host's files are mounted; upper/, what it wrote, and
                         overlayfs's work/; log, which conmon writes; exit, its exit status
RUN/runtime/ID12/        pid; keeper, the pid of whoever waits for its end: conmon, or dnet itself in the
                         foreground; lock, held by the keeper until the exit status is written; error, what the
                         OCI runtime said
"""

from __future__ import annotations

import os
import time

from dnet.linux import files, spawn
from dnet.model.container import Status
from dnet.model.values import Value, frozen

# How long the kernel may take for a killed process, and a keeper to write down its end.
END_TIMEOUT_S = 10.0


@frozen
class Place(Value):
    """What outlives a reboot is in the directory `state`, what does not in `run`; `name` is the OCI runtime's."""

    name: str
    state: str
    run: str

    @property
    def config(self) -> str:
        """The bundle's config.json; it is there if the container has ever been started."""
        return f"{self.state}/config.json"

    @property
    def exit(self) -> str:
        """The file with the exit status of a process that has ended."""
        return f"{self.state}/exit"

    @property
    def log(self) -> str:
        """The file that conmon writes the output to."""
        return f"{self.state}/log"

    @property
    def pid(self) -> str:
        """The file with the pid of the container's first process."""
        return f"{self.run}/pid"

    @property
    def keeper(self) -> str:
        """The file with the pid of the process that waits for the end."""
        return f"{self.run}/keeper"

    @property
    def lock(self) -> str:
        """The file that the keeper has locked."""
        return f"{self.run}/lock"

    @property
    def error(self) -> str:
        """The file with what the OCI runtime has to say."""
        return f"{self.run}/error"

    @property
    def cgroup(self) -> str:
        """The path of the control group, the same in every hierarchy."""
        return f"/dnet-{self.name}"

    # The process

    def status(self) -> Status:
        """Return whether the process runs, or how it ended."""
        if not os.path.exists(self.config):
            return Status(state="created")
        code = files.read_number(self.exit)
        if code is not None:
            return Status(state="exited", exit_code=code)
        is_kept = self.is_kept()
        pid = files.read_number(self.pid) or 0
        if is_kept or self._is_home_of(pid):
            return Status(state="running", pid=pid) if pid else Status(state="created")
        # The keeper may have written down the end between the two looks; or it was killed.
        return Status(state="exited", exit_code=files.read_number(self.exit))

    def open_process(self) -> int | None:
        """Return a descriptor of the container's first process, or None when it does not run."""
        pid = files.read_number(self.pid) or 0
        opened = spawn.open_process(pid)
        if opened is not None and not self._is_home_of(pid):
            os.close(opened)
            return None
        return opened

    def _is_home_of(self, pid: int) -> bool:
        """Whether a process is alive and in the container's control group: numbers of processes are used again."""
        is_ours = any(line.endswith(f":{self.cgroup}") for line in files.read(f"/proc/{pid}/cgroup").splitlines())
        # proc(5): after the name, which may contain anything, comes the state; Z and X are dead.
        return is_ours and files.read(f"/proc/{pid}/stat").rpartition(") ")[2][:1] not in {"", "Z", "X"}

    # Whoever waits for its end

    def is_kept(self) -> bool:
        """Whether the keeper has its work to do yet: it holds the lock, or is conmon, which lets go of it before."""
        keeper = files.read_number(self.keeper) or 0
        return spawn.is_held(self.lock) or f"\0--cid={self.name}\0" in files.read(f"/proc/{keeper}/cmdline")

    def open_keeper(self) -> int | None:
        """Return a descriptor of the keeper, or None when it has done its work."""
        opened = spawn.open_process(files.read_number(self.keeper) or 0)
        if opened is not None and not self.is_kept():
            os.close(opened)
            return None
        return opened

    def await_exit(self) -> None:
        """Wait until the keeper has written down the end of the process, or has gone."""
        keeper = self.open_keeper()
        if keeper is None:
            return
        try:
            from dnet.linux.watch_files import Watch

            with Watch(self.state) as watch:
                end = time.monotonic() + END_TIMEOUT_S
                while not os.path.exists(self.exit) and not spawn.has_ended(keeper, 0):
                    if not watch.wait(keeper, max(end - time.monotonic(), 0)):
                        return
        finally:
            os.close(keeper)
