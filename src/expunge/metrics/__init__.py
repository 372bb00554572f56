"""Images and records in, judgments and scores out; a diffusion model is never seen here."""
