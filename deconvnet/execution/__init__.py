"""Running a graph: one executor, patches of maps, batches that fit into memory."""
