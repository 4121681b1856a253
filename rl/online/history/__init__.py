"""What users were shown and did, as far as policies read it."""
