"""A network's page."""
