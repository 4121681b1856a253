"""SlateQ: slates by the value of what is chosen from them."""
