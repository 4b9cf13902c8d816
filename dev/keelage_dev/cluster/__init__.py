"""A real one-node Kubernetes on this machine, for tests and the demonstration.

python -m keelage_dev.cluster up | down | status
"""

from keelage_dev.cluster.errors import ClusterError
from keelage_dev.cluster.lifecycle import (
    Cluster,
    Status,
    blob_digests,
    down,
    image_names,
    kill,
    load_image,
    quiet,
    restart,
    status,
    tag_image,
    up,
)

__all__ = [
    "Cluster",
    "ClusterError",
    "Status",
    "blob_digests",
    "down",
    "image_names",
    "kill",
    "load_image",
    "quiet",
    "restart",
    "status",
    "tag_image",
    "up",
]
