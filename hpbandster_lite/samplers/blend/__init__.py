"""The blended density ratio: BOHB's densities at every budget, added with a weight for each.

Law of this room: ``density`` holds the kernels, ``ratio`` the sets, the weights of the budgets and the candidates. The
room observes nothing itself; a :class:`~hpbandster_lite.samplers.history.History` has the results.
"""
