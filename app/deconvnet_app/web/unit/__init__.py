"""A unit's page."""
