"""What pages and API share: the guard, checks, files with ranges, problems, the protocol."""
