"""The proxy beside the application."""
