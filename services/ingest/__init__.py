"""Events from files into the table: nothing is lost, and nothing is counted twice."""
