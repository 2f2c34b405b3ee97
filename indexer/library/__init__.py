"""Library: a directory that binds a catalog, a vector index and one model."""
