"""A Ray cluster of a head and two nodes in this machine, until standard input ends.

    python tests/ray_cluster.py

prints one line of JSON: its address, and of each node its id and its processes. A line of JSON on
standard input ({"num_gpus": 1}) is a node that joins.
"""

from __future__ import annotations

import json
import os
import sys

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
SOON = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    # Patient with one that is merely busy: a node taken for dead would leave nobody to work.
    "health_check_timeout_ms": 20_000,
    "health_check_failure_threshold": 5,
}


def main() -> None:
    """Starts it, tells of it, and ends it when the reader has gone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    here = {"node_ip_address": "127.0.0.1"}
    head = {**SMALL, **here, "num_cpus": 0, "_system_config": SOON}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        both = [cluster.add_node(**SMALL, **here) for _ in range(2)]
        cluster.wait_for_nodes()
        nodes = {
            node.node_id: [
                one.process.pid for several in node.all_processes.values() for one in several
            ]
            for node in both
        }
        print(json.dumps({"address": cluster.address, "nodes": nodes}), flush=True)
        for line in sys.stdin:
            cluster.add_node(**{**SMALL, **here, **json.loads(line)})
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
