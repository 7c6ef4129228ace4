"""Restrict gloo and NCCL to the loopback interface when all workers are on one host."""

from __future__ import annotations

import os
import socket

import psutil

_VARIABLES = {"GLOO_SOCKET_IFNAME": "{}", "NCCL_SOCKET_IFNAME": "={}"}  # without the sign NCCL takes it for a prefix


def stay_on_this_host() -> None:
    """Make gloo and NCCL listen on the loopback interface only, because neither authenticates connections.

    Overrides the machine's settings for several hosts. Call it before the process group is created.
    """
    for interface, addresses in psutil.net_if_addrs().items():
        if any(one.family == socket.AF_INET and one.address == "127.0.0.1" for one in addresses):
            os.environ.update({name: value.format(interface) for name, value in _VARIABLES.items()})
            return
