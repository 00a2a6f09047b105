"""The server and the index under faults; a script is run as `python -m tests.reliability.NAME`."""
