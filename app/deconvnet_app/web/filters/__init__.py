"""The page of a layer's filters."""
