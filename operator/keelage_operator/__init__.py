"""The operator: custom resources in, proxy configuration, rights and status out."""
