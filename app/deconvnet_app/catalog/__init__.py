"""The networks, datasets and indexes that there are, found without running a network."""
