"""Choose the network interface of gloo and NCCL: loopback on one host, the one that other hosts reach on several."""

from __future__ import annotations

import os
import socket

import psutil

_GLOO, _NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def stay_on_this_host() -> None:
    """Make gloo and NCCL listen on the loopback interface only, because neither authenticates connections.

    Overrides the machine's settings for several hosts. Call it before the process group is created.
    """
    if interface := _interface_of("127.0.0.1"):
        os.environ.update({_GLOO: interface, _NCCL: f"={interface}"})  # without the sign NCCL takes it for a prefix


def reach_other_hosts(address: str) -> None:
    """Make gloo use the interface of an address that other hosts reach, unless `GLOO_SOCKET_IFNAME` names one.

    Without it gloo takes the address that the hostname resolves to, which is loopback on a plain Debian or Ubuntu and
    wherever the name is not known. NCCL looks for an interface by itself and takes no loopback one.

    Args:
        address: of this host, IPv4 or IPv6. One that no interface has changes nothing.
    """
    if interface := _interface_of(address):
        os.environ.setdefault(_GLOO, interface)


def _interface_of(address: str) -> str | None:
    for interface, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.address.partition("%")[0] == address:
                return interface
    return None
