"""Occlusion: how a class answers when parts of an image are hidden."""
