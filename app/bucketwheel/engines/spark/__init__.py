"""The spark engine: the same kernel as tasks of Spark."""
