"""What the development cluster raises: one kind, with a text for the developer."""


class ClusterError(Exception):
    """The cluster could not be brought where it was asked to; the text says why and what to do."""
