"""What an edit is shown to others with: thresholds for a pipeline, a signed bundle, and what verifies it. No torch.

Importing this package loads neither model-signing nor cyclonedx; they are needed when a bundle is made or verified (the
extra `evidence`).
"""
