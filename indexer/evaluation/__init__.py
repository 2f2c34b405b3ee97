"""Measures models and indexes: recall on captioned sets, accuracy on classified sets."""
