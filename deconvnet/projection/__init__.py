"""The deconvnet: activations down to the pixels."""
