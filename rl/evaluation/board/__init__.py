"""What decisions have earned, added up as they come: by policy and variant over time, and by item."""
