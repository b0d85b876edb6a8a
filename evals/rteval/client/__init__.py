"""The outside world: credentials, connections, sessions."""
