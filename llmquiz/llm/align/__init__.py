"""From preferences and rewards to a policy."""
