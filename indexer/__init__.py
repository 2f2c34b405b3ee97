"""The offline half: images are embedded and stored in a library. Imports nothing from server."""
