"""AWS: clients, one retry and one map of errors for every service."""
