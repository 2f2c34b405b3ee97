"""Catalog: images, embeddings, full text and failures in SQLite."""
