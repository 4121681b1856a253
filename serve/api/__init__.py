"""HTTP routes, one module an interface."""
