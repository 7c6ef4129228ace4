"""Check whether the head node of the Ray cluster answers, by a plain TCP connection: a Ray call to a lost one blocks.

After a minute without the head node Ray ends every process that is connected to it, this one included and with code 1
(2.60). Until then workers and order queue still reach each other, so there is time to save and to exit in order.
"""

from __future__ import annotations

import socket
import time

import ray

_REACH_SECONDS = 1.0


class HeadNode:
    """Asks the head node's port for an answer and measures for how long there was none."""

    def __init__(self) -> None:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._silent_since: float | None = None

    def silent_seconds(self) -> float:
        """Seconds since the first unanswered connection attempt; 0 when the head node answers now."""
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
    """Whether the head node still counts this process's node, which the order queue is on too, as alive."""
    own = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == own and node["Alive"] for node in ray.nodes())
