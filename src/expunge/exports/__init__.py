"""An edit in the forms that other programs take, and other people's edits as patches.

`formats.FORMATS` has one entry per form; each is written by a file of its own, read back (`read_back`), and recorded.
`incoming` is the way back: what somebody's file changes in a base model.
"""
