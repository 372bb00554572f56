"""Further small models of expunge's embedded world; each folder here is a plain diffusers pipeline."""
