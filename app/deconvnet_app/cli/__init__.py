"""The `deconvnet` command: one module for each of its commands."""
