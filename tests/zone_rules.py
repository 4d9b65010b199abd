"""Creates a tzdata package with other rules for some zones, for commands in a subprocess."""

import struct
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

VERSION = "2000.1"


def make_tzdata(folder: Path, fixed: Mapping[str, int]) -> None:
    """Write a package `tzdata` in which the `fixed` zones are always so many hours ahead of UTC."""
    package = folder / "tzdata"
    package.mkdir()
    (package / "__init__.py").touch()
    dist_info = folder / f"tzdata-{VERSION}.dist-info"
    dist_info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: tzdata\nVersion: {VERSION}\n"
    (dist_info / "METADATA").write_text(metadata)
    (package / "zones").write_text(files("tzdata").joinpath("zones").read_text())
    _write(package, "UTC", _fixed_offset_rules(0))
    for name, hours in fixed.items():
        _write(package, name, _fixed_offset_rules(hours))


def _write(package: Path, name: str, rules: bytes) -> None:
    file = package / "zoneinfo" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(rules)


def _fixed_offset_rules(hours: int) -> bytes:
    """A TZif file (RFC 8536): two blocks with one type and no transitions, and a footer rule."""
    name = b"OLD\0"
    head = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, len(name))
    block = head + struct.pack(">lbb", hours * 3600, 0, 0) + name
    return block + block + f"\nOLD{-hours}\n".encode()
