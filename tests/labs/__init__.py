"""The labs, run as experiments: their numbers must agree with each other, and their claims must hold."""
