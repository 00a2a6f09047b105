"""Plain functions that pages, API and commands call; no HTTP, no SQL."""
