"""A network as data, checked before anything is built."""
