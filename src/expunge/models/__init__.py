"""Diffusion models behind one interface: load, draw, choose parameters by scope, put patches on and off.

The only folder (with `tiny.bake`) that knows diffusers.
"""
