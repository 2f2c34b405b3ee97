"""A Ray cluster of a head and two nodes on this machine, until standard input ends.

    python tests/ray_cluster.py

prints one line of JSON: its address, and the process ids of each node by node id. A line of JSON on
standard input ({"num_gpus": 1}) adds a node.
"""

from __future__ import annotations

import json
import os
import sys

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
FAILURE_DETECTION = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    # Long, so that a busy node is not taken for dead.
    "health_check_timeout_ms": 20_000,
    "health_check_failure_threshold": 5,
}


def main() -> None:
    """Starts it, describes it on standard output, and stops it when standard input ends."""
    # Ray's default niceness of 15 starves the workers of a test run on a busy machine.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    from ray.cluster_utils import Cluster

    here = {"node_ip_address": "127.0.0.1"}
    head = {**NODE, **here, "num_cpus": 0, "_system_config": FAILURE_DETECTION}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        both = [cluster.add_node(**NODE, **here) for _ in range(2)]
        cluster.wait_for_nodes()
        nodes = {
            node.node_id: [
                one.process.pid for several in node.all_processes.values() for one in several
            ]
            for node in both
        }
        print(json.dumps({"address": cluster.address, "nodes": nodes}), flush=True)
        for line in sys.stdin:
            cluster.add_node(**{**NODE, **here, **json.loads(line)})
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
