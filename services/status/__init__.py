"""Status of the service: checks of the database, of Redis, and of the connections to them."""
