"""Photos: one file becomes pixels, metadata and a thumbnail, in worker processes (Pillow)."""
