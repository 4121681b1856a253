"""What the page of data shows: what nodes send, what was rejected and why, how large everything is."""
