"""What is taught, as data: the embedded example."""
