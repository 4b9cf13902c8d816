"""Into the pods' networks and between them: sockets inside a pod's namespace, and rules that take packets away."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
"""linux/sched.h"""
LIBC = ctypes.CDLL(None, use_errno=True)
CHAIN = "KEELAGE-CHAOS"
HOOKS = ("INPUT", "FORWARD")
"""Where the host's own services and other pods are reached."""


class PodNetwork:
    """The network namespace of a pod; its loopback is where the sidecar listens."""

    def __init__(self, pid: int) -> None:
        """Of any process in the pod. FileNotFoundError if it has ended."""
        self._handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def connect(self, port: int, timeout_s: float) -> socket.socket:
        """A connection to 127.0.0.1 in there. OSError as from connect()."""
        with self._entered():
            # A socket stays in the namespace in which it was made.
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.settimeout(timeout_s)
            made.connect(("127.0.0.1", port))
        except OSError:
            made.close()
            raise
        return made

    def close(self) -> None:
        os.close(self._handle)

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        """This thread only."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._handle)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)


def _enter(handle: int) -> None:
    if LIBC.setns(handle, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextlib.contextmanager
def gate() -> Iterator[None]:
    """A chain in front of all others, in which rules can be put; gone afterwards, whatever happened."""
    close()
    _iptables("-N", CHAIN)
    for hook in HOOKS:
        _iptables("-I", hook, "1", "-j", CHAIN)
    try:
        yield
    finally:
        close()


def close() -> None:
    """Safe where there is none."""
    for hook in HOOKS:
        _iptables("-D", hook, "-j", CHAIN, check=False)
    _iptables("-F", CHAIN, check=False)
    _iptables("-X", CHAIN, check=False)


@contextlib.contextmanager
def cut(*words: str, silently: bool) -> Iterator[None]:
    """TCP packets that match get lost, or are answered with a reset."""
    target = ("DROP",) if silently else ("REJECT", "--reject-with", "tcp-reset")
    rule = (CHAIN, "-p", "tcp", *words, "-j", *target)
    _iptables("-A", *rule)
    try:
        yield
    finally:
        _iptables("-D", *rule, check=False)


def _iptables(*words: str, check: bool = True) -> None:
    subprocess.run(["iptables", "--wait", *words], check=check, capture_output=True)
