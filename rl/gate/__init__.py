"""Whether a challenger may replace the champion: evidence, a verdict, and a report that it can be re-argued from."""
