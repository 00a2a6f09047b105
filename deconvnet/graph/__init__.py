"""A module as a graph of our own: traced, checked against the module, and named."""
