"""The Personalizer API's logic, on the same decisions and the same log as version 1. No HTTP, no Ray."""
