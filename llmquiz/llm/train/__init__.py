"""Training: the loss, its schedules, the step, and what it runs on."""
