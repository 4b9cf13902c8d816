"""How many sidecars and budgets one operator serves: `make scale`.

The real operator in a process of its own against a real API server and etcd; in another process the lease-keeping
part of a thousand sidecars, each with a journal, connections and a token of its own.
"""
