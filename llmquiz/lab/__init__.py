"""Labs: what they declare, how they run in a child process, what they report."""
