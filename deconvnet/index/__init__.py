"""The index: the strongest activations of every unit over a dataset."""
