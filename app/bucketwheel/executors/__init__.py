"""SQL engines that copy tables."""
