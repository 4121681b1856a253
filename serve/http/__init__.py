"""All that stands before a route: headers, keys, limits, bodies, errors, logs."""
