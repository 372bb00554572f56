"""Methods by name: literals made of parts, one published system per file, with where their numbers come from."""
