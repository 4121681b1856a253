"""A market: customers, items, visits and purchases, generated or fitted to past ones."""
