"""Jobs: what they wait for, what became of them, and who tidies up."""
