"""What a node declares of its rows, and what follows from that for a value, a column and a row."""
