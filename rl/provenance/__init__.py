"""Recorded folds made again, also after users that they have learned from were forgotten."""
