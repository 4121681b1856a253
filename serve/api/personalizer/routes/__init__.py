"""HTTP routes of the Personalizer API, in its three dialects."""
