"""Anybody's detector, by name: what it measures on an image, and which of that counts as a yes."""
