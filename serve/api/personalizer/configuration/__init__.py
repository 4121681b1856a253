"""What the owner of the Personalizer loop has set."""
