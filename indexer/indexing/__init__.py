"""Indexing: one run walks, compares, decodes, encodes, stores, removes and indexes."""
