"""Reads one image file into pixels, metadata and a thumbnail, in worker processes (Pillow)."""

from sightline.indexer.photo.decoder import Decoder

__all__ = ["Decoder"]
