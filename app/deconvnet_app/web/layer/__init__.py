"""A layer's page."""
