"""What is done: each job a function from plain JSON to plain JSON."""
