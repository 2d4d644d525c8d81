"""AWS clients, retries and error messages of all services."""
