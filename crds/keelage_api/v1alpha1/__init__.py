"""The custom resources of `keelage.dev/v1alpha1`."""
