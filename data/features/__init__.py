"""Features that are fitted once on ingested events and are the same offline and online."""
