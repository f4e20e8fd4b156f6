"""What a run needs in memory, measured: now (`resident`), and at the peak of a training (`peak`)."""
