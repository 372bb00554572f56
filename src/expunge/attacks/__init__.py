"""Attempts to get an unlearned concept out again. One attack, one file; the judge is passed in."""
