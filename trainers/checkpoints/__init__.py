"""What survives a killed process: whole files (`storage`), and checkpoints made of them (`protocol`)."""
