"""Evaluation: recall and accuracy on captioned or labelled sets."""
