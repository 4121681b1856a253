"""The Personalizer API on the same decisions and the same log as version 1."""
