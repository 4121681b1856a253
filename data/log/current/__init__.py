"""What is so now, beside what has happened: items, users, keys and settings, and the copies that replicas follow."""
