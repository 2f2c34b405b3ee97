"""Vector index: planned, trained, tuned, searched, saved and loaded with FAISS."""
