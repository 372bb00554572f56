"""A page on this machine to try models and edits: draw before and after, erase, attack, read reports, label blind.

What happens is in plain classes (`jobs`, `served` and one module per action); `server` makes requests of them, and
`static/` is the page. Nothing is loaded from the internet, and one job runs at a time.
"""
