"""Scenes: the drawn sample gallery and its captions."""
