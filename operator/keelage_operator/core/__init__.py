"""The operator's decisions: values in, values out."""
