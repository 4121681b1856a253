"""What the service's processes count for Prometheus, and how it gets there through Ray."""
