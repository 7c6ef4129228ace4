"""Runs on a cluster of several hosts, which are cut off, killed and replaced: what was done and what was seen.

    python tests/hosts/cluster_test.py [submits] [logs] [stops] [hosts]

The hosts are namespaces of this machine (`network.py`): a head, two workers and a client, each with an address, a
hostname, processes and files of its own, and a storage that all of them see. Needs root and iproute2; says why and
exits with 0 where that is missing. Exits with 1 when anything was not as it has to be.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from hosts import cut_logs, killed_submits, lost_hosts, stops
from hosts.namespaces import why_not
from hosts.ray_hosts import ray_hosts
from hosts.rows import Abandoned, Table

_SCENARIOS = {"submits": killed_submits.play, "logs": cut_logs.play, "stops": stops.play, "hosts": lost_hosts.play}


def main() -> int:
    """Play the scenarios that are asked for, all without a name, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(_SCENARIOS)}; all when left out")
    parser.add_argument("--keep", action="store_true", help="keep the hosts' files after a failure")
    asked = parser.parse_args()
    if reason := why_not():
        print(f"skipped: {reason}")
        return 0
    began, table = time.monotonic(), Table()
    with ray_hosts(keep=lambda: asked.keep and not table.is_good) as hosts:
        for name, play in _SCENARIOS.items():  # the last takes the cluster apart
            if not asked.scenarios or name in asked.scenarios:
                with suppress(Abandoned):
                    play(hosts, table)
    print(f"\n{table}\n{time.monotonic() - began:.0f} s")
    return 0 if table.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
