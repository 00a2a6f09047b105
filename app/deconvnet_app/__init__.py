"""The deconvnet application: command line, server, jobs."""
