"""Analyses of networks, one file each."""
