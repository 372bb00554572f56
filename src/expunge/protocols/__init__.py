"""Evaluation protocols as files: prompts, sampler, detectors and scores of a published number, each known by hash."""
