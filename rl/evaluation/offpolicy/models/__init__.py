"""Cross-fitted models for estimators: of rewards, of a slate's slots, of how the log's decisions were made."""
