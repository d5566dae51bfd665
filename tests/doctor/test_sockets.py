"""Listening sockets and families of processes, against real ones."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_nni.doctor.sockets import ListeningSocket, arguments, family, is_local, listeners
from tests.doctor.findings import listening


def test_listening_sockets_are_found_with_their_address():
    pid = os.getpid()
    with listening("127.0.0.1") as one, listening("0.0.0.0") as two:
        found = listeners([pid])
        assert ListeningSocket(pid, "127.0.0.1", one) in found
        assert ListeningSocket(pid, "0.0.0.0", two) in found
    assert not {one, two} & {listener.port for listener in listeners([pid])}


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="a kernel without IPv6")
def test_listening_sockets_of_ipv6_are_found():
    with listening("::", family=socket.AF_INET6) as port:
        assert ListeningSocket(os.getpid(), "::", port) in listeners([os.getpid()])


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.2", False),
    ],
)
def test_loopback_addresses_are_those_that_no_other_machine_reaches(address, local):
    assert is_local(address) is local


def test_a_family_has_grandchildren():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        try:
            while len(members := family(process.pid)) < 2:
                pass
            assert members[0] == process.pid
            assert set(members) <= set(family(os.getpid()))
            assert arguments(members[1])[1:2] in (["-c"], [])  # not yet executed, at first
        finally:
            process.communicate(b"\n")
