"""The sidecar's decisions: values in, values out."""
