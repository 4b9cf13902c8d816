"""The operator's hands: Kubernetes, sockets, time."""
