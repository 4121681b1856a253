"""What may be said to the service and what it answers, whatever the transport."""
