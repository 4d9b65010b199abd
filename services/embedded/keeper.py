"""The process that runs the servers of one data folder, until nobody uses them any more."""

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
from services.embedded.folder import (
    ENDPOINTS,
    FAILURE,
    KEEPER,
    USERS,
    Wanted,
    endpoints,
    places,
    write_private,
)
from services.embedded.servers import Server, postgres, valkey

_PAUSE_S = 0.5


def keep(wanted: Wanted, users: int) -> None:
    """Run the servers until nobody holds the users' lock. Raises: EmbeddedError."""
    data_dir = wanted.data_dir
    found = places(data_dir)
    other = Path(wanted.postgres_bin) if wanted.postgres_bin else None
    binaries = find_binaries(data_dir, other)
    servers = [
        postgres(data_dir, binaries, found, wanted.postgres_options),
        valkey(data_dir, binaries, found),
    ]
    with _running(servers) as processes:
        write_private(data_dir / ENDPOINTS, msgspec.json.encode(endpoints(found)))
        unused = _watch(users)
        while not unused.wait(_PAUSE_S):
            _start_dead(servers, processes, unused)
        (data_dir / ENDPOINTS).unlink()


@contextmanager
def _running(servers: list[Server]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for server in servers:
            processes.append(server.start())
        yield processes
    finally:
        for server, process in zip(servers, processes, strict=False):
            server.stop(process)


def _watch(users: int) -> Event:
    """Users hold the lock shared: it is ours alone once the last one is gone."""
    unused = Event()

    def wait() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        unused.set()

    Thread(target=wait, daemon=True).start()
    return unused


def _start_dead(
    servers: list[Server], processes: list["subprocess.Popen[bytes]"], unused: Event
) -> None:
    for index, process in enumerate(processes):
        if process.poll() is not None:
            # It is tried again, and the other one stays: files may be short for a moment.
            with suppress(EmbeddedError, OSError):
                processes[index] = servers[index].start(lambda: not unused.is_set())


def main() -> None:
    """Both locks are held to the very end: whoever waits for them can start a keeper then."""
    wanted = msgspec.json.decode(sys.argv[1], type=Wanted)
    alive, users = (os.open(wanted.data_dir / name, os.O_RDWR) for name in (KEEPER, USERS))
    fcntl.flock(alive, fcntl.LOCK_EX)
    try:
        keep(wanted, users)
    except (EmbeddedError, OSError) as exc:
        (wanted.data_dir / FAILURE).write_text(str(exc))
    except msgspec.MsgspecError:
        (wanted.data_dir / FAILURE).write_text("places.json, which holds the passwords, is damaged")
    # In this order: a newcomer holds the users' lock when no keeper is left. At an exit
    # the kernel may drop the last one first.
    os.close(alive)
    os.close(users)
    os._exit(0)


if __name__ == "__main__":
    main()
