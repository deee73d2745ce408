"""A Gaussian process over configuration and budget, and the search for the configuration that it would try next.

Law of this room: pure functions and values, no clock and no thread. ``features`` turns configurations into numbers,
``targets`` losses; ``kernel`` has the covariance, its priors and its gradient, ``fit`` the most probable parameters,
``posterior`` means and deviations, ``acquisition`` the search.
"""
