"""Whose process is at the other end of a loopback connection. On Linux the kernel can tell.

Loopback is shared by all accounts of a machine; Cirrus serves its own, and root, alone.
"""

import os
import socket
import struct
from pathlib import Path
from typing import Final

# Of linux/sock_diag.h, inet_diag.h and netlink.h.
SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
REQUEST: Final = 1
HEADER: Final = struct.Struct("=IHHII")
WANTED: Final = struct.Struct("=BBBBI")
PORTS: Final = struct.Struct(">HH")
NO_COOKIE: Final = struct.pack("=III", 0, 2**32 - 1, 2**32 - 1)
OWNER: Final = struct.Struct("=II")
OWNER_AT: Final = HEADER.size + 64

Address = tuple[str, int]


def is_ours(peer: Address, own: Address) -> bool:
    """Whether the socket `peer` that is connected to `own` belongs to this account, or to root."""
    try:
        owner = _ask_kernel(peer, own)
    except OSError:
        owner = _look_in_table(peer, own)
    # A socket that its process has closed already belongs to nobody, and is shown as root's.
    return owner is not None and owner[1] != 0 and owner[0] in (0, os.geteuid())


def _ask_kernel(peer: Address, own: Address) -> tuple[int, int] | None:
    """Account and inode. Raises OSError where the kernel does not answer such questions."""
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    pair = b"".join(socket.inet_pton(family, host).ljust(16, b"\0") for host, _ in (peer, own))
    wanted = WANTED.pack(family, socket.IPPROTO_TCP, 0, 0, 2**32 - 1)
    body = wanted + PORTS.pack(peer[1], own[1]) + pair + NO_COOKIE
    header = HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(header + body)
        answer = kernel.recv(4096)
    if HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return None
    account, inode = OWNER.unpack_from(answer, OWNER_AT)
    return account, inode


def _look_in_table(peer: Address, own: Address) -> tuple[int, int] | None:
    """The same from /proc: slow on a machine with many connections."""
    table = Path("/proc/net/tcp6" if ":" in peer[0] else "/proc/net/tcp")
    local, remote = (_as_in_table(address) for address in (peer, own))
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if fields[1] == local and fields[2] == remote:
            return int(fields[7]), int(fields[9])
    return None


def _as_in_table(address: Address) -> str:
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    words = struct.unpack("=" + "I" * (4 if ":" in host else 1), socket.inet_pton(family, host))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
