"""Weights and networks from other programs' files."""
