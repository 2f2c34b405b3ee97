"""Finds image files: walks folders and archives, and watches them for changes."""
