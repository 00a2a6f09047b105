"""Decoding of images that anybody may have made, in a process with little to lose."""
