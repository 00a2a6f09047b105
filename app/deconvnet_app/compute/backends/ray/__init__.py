"""Units and scans on a Ray cluster that the user runs."""
