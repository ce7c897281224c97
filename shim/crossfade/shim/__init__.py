"""The call site and the bus side of a seam."""
