"""What people look at: a page each for shop, learning, experiments, data and one decision, behind sessions."""
