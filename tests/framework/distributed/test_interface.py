"""gloo's interface is loopback on one host, and on several the one whose address the other hosts reach."""

import os
import socket
from collections import namedtuple

import psutil
import pytest

from espalier.distributed.interface import reach_other_hosts, stay_on_this_host

Address = namedtuple("Address", "family address")


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    found = {
        "lo": [Address(socket.AF_INET, "127.0.0.1")],
        "docker0": [Address(socket.AF_INET, "172.17.0.1")],
        "eth1": [Address(socket.AF_PACKET, "02:42:0a"), Address(socket.AF_INET, "10.77.0.3")],
        "eth2": [Address(socket.AF_INET6, "fd00::7%eth2")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)


@pytest.mark.parametrize(("address", "interface"), [("10.77.0.3", "eth1"), ("fd00::7", "eth2"), ("10.9.9.9", None)])
def test_the_interface_of_the_address_is_taken(address: str, interface: str | None) -> None:
    reach_other_hosts(address)
    assert os.environ.get("GLOO_SOCKET_IFNAME") == interface and "NCCL_SOCKET_IFNAME" not in os.environ


def test_an_interface_that_the_user_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    reach_other_hosts("10.77.0.3")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"


def test_workers_of_one_host_stay_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    stay_on_this_host()
    assert (os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]) == ("lo", "=lo")
