"""Zero-shot classification of images by labels: prompt templates, labels, everyday captions."""
