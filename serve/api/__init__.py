"""HTTP routes, one module an interface. FastAPI, no Ray."""
