"""The page of the REST interface."""
