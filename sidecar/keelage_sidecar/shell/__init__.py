"""The sidecar's hands: sockets, files, time."""
