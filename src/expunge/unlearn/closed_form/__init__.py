"""Edits in closed form: what text states of a concept turn into is solved for, not trained."""
