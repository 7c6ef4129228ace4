"""The head of the cluster, asked for without Ray: a call to a head that is gone never returns.

After a minute without its head Ray ends every process that is connected to it, this one too and with code 1
(2.60). Until then workers and queue still hear each other, so there is time to save and to leave in order.
"""

from __future__ import annotations

import socket
import time

import ray

_REACH_SECONDS = 1.0


class Head:
    """Where the head listens, and since when nobody has answered there."""

    def __init__(self) -> None:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._silent_since: float | None = None

    def silent_seconds(self) -> float:
        """For how long it has not answered, over all looks since it last did; zero when it does now."""
        began = time.monotonic()
        try:
            socket.create_connection(self._address, _REACH_SECONDS).close()
        except OSError:
            if self._silent_since is None:
                self._silent_since = began
            return time.monotonic() - self._silent_since
        self._silent_since = None
        return 0.0


def node_lives() -> bool:
    """Whether the node that this process and its queue are on is still part of the cluster. Asks the head."""
    own = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == own and node["Alive"] for node in ray.nodes())
