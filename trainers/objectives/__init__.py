"""What is learned: one loss a file."""
