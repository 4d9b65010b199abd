"""Events from files and requests into the table: nothing is lost, and nothing is counted twice."""
