"""What an operator has to know: checks of the database, of Redis and of what connects them."""
