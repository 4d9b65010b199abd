"""The supervisor process, which runs the servers of one data directory while clients use them."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import msgspec

from services.embedded.binaries import EmbeddedError, find_binaries
from services.embedded.data_dir import (
    ENDPOINTS,
    FAILURE,
    SUPERVISOR_LOCK,
    USERS,
    SupervisorConfig,
    endpoints,
    load_access,
    write_private,
)
from services.embedded.servers import Server, postgres, valkey

_CHECK_EVERY_S = 0.5


def supervise(config: SupervisorConfig, users: int) -> None:
    """Run the servers until no client holds the lock `users`. Raises: EmbeddedError."""
    data_dir = config.data_dir
    access = load_access(data_dir)
    other = Path(config.postgres_bin) if config.postgres_bin else None
    binaries = find_binaries(data_dir, other)
    servers = [
        postgres(data_dir, binaries, access, config.postgres_options),
        valkey(data_dir, binaries, access),
    ]
    with _run_servers(servers) as processes:
        write_private(data_dir / ENDPOINTS, msgspec.json.encode(endpoints(access)))
        unused = _watch_users(users)
        while not unused.wait(_CHECK_EVERY_S):
            _restart_dead(servers, processes, unused)
        (data_dir / ENDPOINTS).unlink()


@contextmanager
def _run_servers(servers: list[Server]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for server in servers:
            processes.append(server.start())
        yield processes
    finally:
        for server, process in zip(servers, processes, strict=False):
            server.stop(process)


def _watch_users(users: int) -> Event:
    """An event that is set when the last client has gone."""
    # Clients hold the lock shared, so an exclusive lock is granted when none is left.
    unused = Event()

    def wait() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        unused.set()

    Thread(target=wait, daemon=True).start()
    return unused


def _restart_dead(
    servers: list[Server], processes: list["subprocess.Popen[bytes]"], unused: Event
) -> None:
    for index, process in enumerate(processes):
        if process.poll() is not None:
            # A failed restart is tried again, and the other server keeps running: the reason may be
            # temporary, such as too many open files.
            with suppress(EmbeddedError, OSError):
                processes[index] = servers[index].start(lambda: not unused.is_set())


def main() -> None:
    """Entry point of the process; the configuration is its argument, as JSON."""
    config = msgspec.json.decode(sys.argv[1], type=SupervisorConfig)
    supervisor_lock, users = (
        os.open(config.data_dir / name, os.O_RDWR) for name in (SUPERVISOR_LOCK, USERS)
    )
    fcntl.flock(supervisor_lock, fcntl.LOCK_EX)
    try:
        supervise(config, users)
    except (EmbeddedError, OSError) as exc:
        (config.data_dir / FAILURE).write_text(str(exc))
    except msgspec.MsgspecError:
        (config.data_dir / FAILURE).write_text("places.json, which holds the passwords, is damaged")
    # Both locks are held to the end, and released in this order: a client that gets the lock
    # `users` must not find a supervisor that is about to end. At exit the kernel might release
    # them in the other order.
    os.close(supervisor_lock)
    os.close(users)
    os._exit(0)


if __name__ == "__main__":
    main()
