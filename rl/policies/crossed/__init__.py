"""The policy over features of any JSON: linear in crossed features, a table where contexts recur."""
