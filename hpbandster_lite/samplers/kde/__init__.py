"""BOHB's model: kernel densities of good and bad configurations, and what they propose."""
