"""The torch module that a description becomes."""
