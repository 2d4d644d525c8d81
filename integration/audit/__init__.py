"""Look for known vulnerabilities in the locked packages."""
