"""What the cluster, the operator and the sidecars agree on: resources, messages, money."""
