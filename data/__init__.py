"""What makes the built-in model and the sample gallery: drawn scenes, their captions, training."""
