"""The occlusion page."""
