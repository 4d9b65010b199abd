"""Writes docs/licences.md: `python -m tools.supply.licences`."""

import re
from importlib.metadata import metadata

from tools.supply.packages import ROOT, pinned

PAGE = ROOT / "docs" / "licences.md"
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "LGPL-3.0-or-later",  # psycopg2, which is used without changes
    "MIT",
    "MPL-2.0",
    "PSF-2.0",
    "Zlib",
}

# Packages that only some Python versions or platforms need; the page must not depend on these.
_ELSEWHERE = {
    "async-timeout": "Apache-2.0",
    "backports-zstd": "PSF-2.0",
    "colorama": "BSD-3-Clause",
    "numpy": "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
    "uvloop": "MIT OR Apache-2.0",
}
_SPDX_NAMES = {
    "3-Clause BSD License": "BSD-3-Clause",
    "LGPL with exceptions": "LGPL-3.0-or-later",
    "MIT License": "MIT",
}
_TEXT = """\
# Licences

Analytics Service is licensed under the Apache License, Version 2.0 ([LICENSE](../LICENSE)).

These are the licences of the packages that it needs, as their metadata states them. `make licences`
writes this page. The image does not contain the packages in *italics*, which are for the embedded
servers.

| package | licence |
|---|---|
{rows}

The texts of these licences, and of the libraries that some packages include, are in the
`*.dist-info` folders of the environment. The embedded servers are PostgreSQL (PostgreSQL Licence)
and Valkey (BSD-3-Clause). psycopg2 (LGPL) is used without changes.
"""


def licence(package: str) -> str:
    """The licence of an installed package as an SPDX expression. Raises: PackageNotFoundError."""
    if package in _ELSEWHERE:
        return _ELSEWHERE[package]
    package_metadata = metadata(package)
    field = "License-Expression" if "License-Expression" in package_metadata else "License"
    text = package_metadata[field].partition("\n")[0] if field in package_metadata else ""
    return _SPDX_NAMES.get(text, text)


def parts(expression: str) -> set[str]:
    """The single licences of an SPDX expression."""
    return set(re.findall(r"[\w.-]+", expression)) - {"AND", "OR", "WITH"}


def page() -> str:
    image = pinned("requirements/image.txt")
    rows = (
        f"| {name if name in image else f'*{name}*'} | {licence(name)} |"
        for name in sorted(pinned("requirements/run.txt"))
    )
    return _TEXT.format(rows="\n".join(rows))


if __name__ == "__main__":
    PAGE.write_text(page())
