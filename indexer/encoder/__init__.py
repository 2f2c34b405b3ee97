"""Encoder: CLIP-family models; images and texts become unit vectors (torch, transformers)."""
