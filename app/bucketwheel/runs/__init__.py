"""What a run leaves behind: its manifest, summary and checkpoints, and how they are found again."""
