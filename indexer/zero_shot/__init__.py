"""Zero-shot classification: prompts, labels and captions."""
