"""What sees what: windows, regions and receptive fields in integers; no torch."""
