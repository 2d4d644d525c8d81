"""What people and machines see of a run: progress, tables and the report."""
