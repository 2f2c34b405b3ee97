"""Training: the recipe of the built-in model."""
