"""Items and users, as a replica puts, reads and forgets them."""
