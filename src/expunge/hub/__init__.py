"""The Hugging Face Hub: what of an edit would go there, and sending it. Nothing goes without an explicit word."""
