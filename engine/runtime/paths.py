"""The files of a container's process, and the state of the process that they tell.

STATE/containers/ID12/   config.json, and rootfs/ where the host's files are mounted; upper/ and work/
                         of overlayfs; log, which conmon writes; exit, the exit status
RUN/runtime/ID12/        pid; keeper, the pid of the process that waits for the end: conmon, or dnet in the
                         foreground; lock, held by the keeper until the exit status is written; error, the log
                         of the OCI runtime
"""

from __future__ import annotations

import os
import time

from dnet.linux import files, spawn
from dnet.model.container import Status

# How long the kernel may take to end a killed process, and a keeper to record that.
END_TIMEOUT_S = 10.0


class ContainerPaths:
    """The paths of a container: what outlives a reboot is in the directory `state`, what does not in `run`."""

    def __init__(self, container_id: str, state_dir: str, run_dir: str) -> None:
        self.name = container_id[:12]  # by which the OCI runtime knows the container
        self.state = f"{state_dir}/containers/{self.name}"
        self.run = f"{run_dir}/runtime/{self.name}"
        self.config = f"{self.state}/config.json"  # is there if the container has ever been started
        self.exit = f"{self.state}/exit"
        self.log = f"{self.state}/log"
        self.pid = f"{self.run}/pid"
        self.keeper = f"{self.run}/keeper"
        self.lock = f"{self.run}/lock"
        self.error = f"{self.run}/error"
        self.cgroup = f"/dnet-{self.name}"  # the same in every hierarchy

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
        # The keeper has recorded the end since the first look, or it was killed.
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
        """Whether a process is alive and in the container's control group; the kernel uses pids again."""
        is_ours = any(line.endswith(f":{self.cgroup}") for line in files.read(f"/proc/{pid}/cgroup").splitlines())
        # proc(5): after the name, which may contain anything, comes the state; Z and X are dead.
        return is_ours and files.read(f"/proc/{pid}/stat").rpartition(") ")[2][:1] not in {"", "Z", "X"}

    # The keeper

    def is_kept(self) -> bool:
        """Whether the keeper still waits: it holds the lock, or is conmon, which releases the lock early."""
        keeper = files.read_number(self.keeper) or 0
        return spawn.is_held(self.lock) or f"\0--cid={self.name}\0" in files.read(f"/proc/{keeper}/cmdline")

    def open_keeper(self) -> int | None:
        """Return a descriptor of the keeper, or None when it has finished."""
        opened = spawn.open_process(files.read_number(self.keeper) or 0)
        if opened is not None and not self.is_kept():
            os.close(opened)
            return None
        return opened

    def await_exit(self) -> None:
        """Wait until the keeper has recorded the exit status, or has ended."""
        keeper = self.open_keeper()
        if keeper is None:
            return
        try:
            from dnet.linux.watch_files import Watch

            with Watch(self.state) as watch:
                end = time.monotonic() + END_TIMEOUT_S
                while not os.path.exists(self.exit) and not spawn.has_ended(keeper, 0):
                    if not watch.wait(keeper, timeout_s=max(end - time.monotonic(), 0)):
                        return
        finally:
            os.close(keeper)
