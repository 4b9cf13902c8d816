"""Tools of the repository: a cluster, a provider, the demo. Never installed with the product."""
