"""What the tests of the doctor share: packages to be found wanting, servers, and a look at findings."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detnas_nni.doctor.finding import Finding


def only(findings: list[Finding], name: str) -> Finding:
    [found] = [finding for finding in findings if finding.name == name]
    return found


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}


def install(folder: Path, name: str, version: str, *requirements: str) -> None:
    """The metadata of a package, as pip leaves it."""
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    (place / "METADATA").write_text("\n".join(lines) + "\n")


def package(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)


@contextmanager
def listening(address: str, port: int = 0, family: int = socket.AF_INET) -> Iterator[int]:
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        yield server.getsockname()[1]
