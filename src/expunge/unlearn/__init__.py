"""Request and model in, patch out: methods as presets of shared parts."""
