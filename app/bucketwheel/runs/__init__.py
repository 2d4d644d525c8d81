"""Run metadata: manifests, summaries and checkpoints, and the store that reads and writes them."""
