"""The search space as plain tables: configurations to vectors of the unit cube and back, under conditions and clauses.

Law of this file: every method is a pure function of the tables and its arguments, for many configurations at once. An
inactive dimension is NaN in a vector and absent from the values. ``to_values`` returns plain Python values: float, int,
str, bool, None.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np

from hpbandster_lite.errors import SpaceError, did_you_mean
from hpbandster_lite.records import Plain, Value, Values
from hpbandster_lite.space import compile as configspace
from hpbandster_lite.space.clauses import Clause, Compiler
from hpbandster_lite.space.codec import Codec
from hpbandster_lite.space.dimension import Array, Dimension, Mask

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

MOST_DRAWS = 100_000
"""``sample`` raises an error after this many forbidden draws in a row."""
LARGEST_BATCH = 8_192
"""Most configurations that ``sample`` draws at a time beyond those still missing."""


class SearchSpace:
    """A ConfigSpace space, compiled.

    Make one with :meth:`from_configspace` or, without ConfigSpace, with :meth:`from_json`.

    Parameters
    ----------
    tables
        The space as JSON, which :meth:`to_json` returns.

    Raises
    ------
    SpaceError
        If the tables have the format of another version.

    Attributes
    ----------
    names : tuple of str
        Names of the hyperparameters, in the order of the vectors (ConfigSpace's order).
    d : int
        Number of hyperparameters.
    dimensions : tuple of Dimension
        One table for each hyperparameter.
    """

    def __init__(self, tables: Plain) -> None:
        if tables.get("format") != configspace.FORMAT:
            raise SpaceError(
                f"the tables of the search space have format {tables.get('format')!r}, and this version reads "
                f"{configspace.FORMAT}; continue the search with the version that began it"
            )
        self._tables = tables
        self.dimensions = tuple(Dimension.from_plain(table) for table in tables["dimensions"])
        self.names = tuple(dim.name for dim in self.dimensions)
        self.d = len(self.dimensions)
        self._column = {name: j for j, name in enumerate(self.names)}
        self._codec = Codec(self.dimensions)
        compiler = Compiler(self.dimensions, self._codec)
        conditions = {self._column[name]: compiler.compile(tree) for name, tree in tables["conditions"].items()}
        self._order = _parents_first(self.d, conditions)
        self._conditions = [(j, conditions[j]) for j in self._order if j in conditions]
        self._forbidden = [compiler.compile(tree) for tree in tables["forbidden"]]
        self._priors = [(j, dim) for j, dim in enumerate(self.dimensions) if dim.prior or dim.weights]

    @classmethod
    def from_configspace(cls, space: ConfigurationSpace) -> SearchSpace:
        """Compile a ConfigSpace space.

        Raises
        ------
        SpaceError
            If the space cannot be compiled; the message names the hyperparameter and the remedy.
        """
        return cls(configspace.tables(configspace.configspace_to_json(space)))

    @classmethod
    def from_json(cls, tables: Plain) -> SearchSpace:
        """The space that :meth:`to_json` described; imports no ConfigSpace."""
        return cls(copy.deepcopy(tables))

    def to_json(self) -> Plain:
        """The tables as plain values."""
        return copy.deepcopy(self._tables)

    # ------------------------------------------------------------------------------ values and vectors

    def to_values(self, vectors: Array) -> list[dict[str, Value]]:
        """The configurations that vectors stand for.

        Parameters
        ----------
        vectors
            Shape (n, d), NaN for inactive dimensions.

        Returns
        -------
        list of dict
            One per vector: the active hyperparameters only, in the order of ``names``, plain Python values.
        """
        return self._named(self._codec.decode(vectors))

    def _named(self, features: Array) -> list[dict[str, Value]]:
        dimensions = self.dimensions
        return [
            {dim.name: dim.value(feature) for dim, feature in zip(dimensions, row, strict=True) if feature == feature}
            for row in features.tolist()
        ]

    def to_vectors(self, configurations: Sequence[Values]) -> Array:
        """Vectors of configurations, shape (n, d), NaN for inactive dimensions.

        Raises
        ------
        SpaceError
            For a hyperparameter that is unknown, missing or inactive; a value of another type or out of range; a
            forbidden configuration. The message names the hyperparameter, the value and the remedy, and the number of
            the configuration (from 0) if there are several.
        """
        try:
            return self._codec.encode(self._checked(configurations))
        except SpaceError:
            if len(configurations) == 1:
                raise
            complaints = map(self.complaint, configurations)
            number, complaint = next((number, text) for number, text in enumerate(complaints) if text)
            raise SpaceError(f"configuration {number}: {complaint}") from None

    def as_given(self, configurations: Sequence[Values]) -> list[dict[str, Value]]:
        """The values of configurations as plain Python values in the order of ``names``; floats to the last bit.

        Raises
        ------
        SpaceError
            For a hyperparameter that is unknown, and a value of another type or out of range.
        """
        return self._named(self._exact(configurations))

    @property
    def parents_first(self) -> list[Dimension]:
        """The hyperparameters, each after those on which its condition depends."""
        return [self.dimensions[j] for j in self._order]

    def is_active(self, name: str, values: Values) -> bool:
        """Whether a hyperparameter is active beside these values, which have all those that its condition reads."""
        condition = dict(self._conditions).get(self._column[name])
        return condition is None or bool(condition.holds(self._given([values]))[0])

    def complaint(self, configuration: Values) -> str | None:
        """Why the space refuses a configuration; None if it accepts it."""
        try:
            self._checked([configuration])
        except SpaceError as error:
            return str(error)
        return None

    def _checked(self, configurations: Sequence[Values]) -> Array:
        features = self._given(configurations)
        self._check_activity(features)
        for clause in self._forbidden:
            if clause.holds(features).any():
                raise SpaceError(f"the space forbids {clause.text}; change one of these hyperparameters")
        return features

    def _given(self, configurations: Sequence[Values]) -> Array:
        """Features of the given values, NaN for all others."""
        return self._codec.canonical(self._exact(configurations))

    def _exact(self, configurations: Sequence[Values]) -> Array:
        """Features of the given values, whose floats are not rounded."""
        features = np.full((len(configurations), self.d), math.nan)
        for configuration in configurations:
            if not configuration.keys() <= self._column.keys():
                raise self._unknown(configuration)
        for j, dim in enumerate(self.dimensions):
            named = [number for number, values in enumerate(configurations) if dim.name in values]
            if named:
                features[named, j] = dim.features([configurations[number][dim.name] for number in named])
        return features

    def _unknown(self, configuration: Values) -> SpaceError:
        name = min(configuration.keys() - self._column.keys(), key=str)
        remedy = did_you_mean(name, self.names, otherwise="the space has")
        return SpaceError(f"unknown hyperparameter {name}={configuration[name]!r}{remedy}")

    def _check_activity(self, features: Array) -> None:
        given = ~np.isnan(features)
        conditions = dict(self._conditions)
        for j in self._order:
            active = conditions[j].holds(features) if j in conditions else np.ones(len(features), dtype=np.bool_)
            name = self.names[j]
            if (given[:, j] & ~active).any():
                value = self.dimensions[j].value(float(features[given[:, j] & ~active, j][0]))
                raise SpaceError(f"{name}={value!r} is inactive: it requires {conditions[j].text}; leave it out")
            if (active & ~given[:, j]).any():
                reason = f" (it is active because {conditions[j].text})" if j in conditions else ""
                raise SpaceError(f"hyperparameter {name!r} is missing{reason}; give it a value")

    # -------------------------------------------------------------------------- conditions and clauses

    def complete(self, u: Array) -> Array:
        """Convert points of the unit cube to vectors of configurations.

        Parameters
        ----------
        u
            Shape (n, d), every coordinate in [0, 1], in inactive dimensions too.

        Returns
        -------
        Array
            Shape (n, d): discrete dimensions at the centre of their bucket, floats at the coordinate of their decimal
            number, inactive dimensions NaN. Forbidden configurations stay; :meth:`allowed` finds them.
        """
        return self._codec.encode(self._activated(self._codec.decode(u)))

    def _activated(self, features: Array) -> Array:
        """Set inactive features to NaN, in place."""
        for j, condition in self._conditions:
            features[~condition.holds(features), j] = math.nan
        return features

    def active(self, vectors: Array) -> Mask:
        """Which dimensions are active, shape (n, d); for points without NaN and for vectors with NaN."""
        return ~np.isnan(self._activated(self._codec.decode(vectors)))

    def allowed(self, vectors: Array) -> Mask:
        """Which vectors satisfy no forbidden clause, shape (n,)."""
        return _none_holds(self._forbidden, self._codec.decode(vectors))

    def forbidding_clause(self, vector: Array) -> str | None:
        """The first clause that forbids a vector, shape (d,), as text; None if it is allowed."""
        features = self._codec.decode(vector[np.newaxis])
        return next((clause.text for clause in self._forbidden if clause.holds(features).any()), None)

    # ------------------------------------------------------------------------------------- sampling

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Random configurations.

        They are uniform in the unit cube, but categoricals follow their weights, and normal and beta hyperparameters
        their distribution. Then conditions apply, and forbidden configurations are drawn again.

        Parameters
        ----------
        rng
            Random generator; it gives ``n * d`` uniform numbers if nothing is forbidden.
        n
            Number of configurations.

        Returns
        -------
        Array
            Shape (n, d).

        Raises
        ------
        SpaceError
            After ``MOST_DRAWS`` forbidden draws in a row.
        """
        return self._codec.encode(self._sampled(rng, n))

    def sample_one(self, rng: np.random.Generator) -> tuple[Array, dict[str, Value]]:
        """One random configuration: its vector, shape (d,), and its values, in half the time of :meth:`sample`."""
        features = self._sampled(rng, 1)
        return self._codec.encode(features)[0], self._named(features)[0]

    def sample_each(self, rngs: Sequence[np.random.Generator]) -> list[tuple[Array, dict[str, Value]] | None]:
        """The first draw of :meth:`sample_one` with each generator, bit for bit; ``None`` if that draw is forbidden."""
        features = self._features(np.concatenate([rng.random((1, self.d)) for rng in rngs]))
        allowed = _none_holds(self._forbidden, features)
        drawn = zip(allowed, self._codec.encode(features), self._named(features), strict=True)
        return [(vector, values) if is_allowed else None for is_allowed, vector, values in drawn]

    def _sampled(self, rng: np.random.Generator, n: int) -> Array:
        """Features of random configurations."""
        kept: list[Array] = []
        missing, refused = n, 0
        while missing > 0:
            # The batch grows while draws are forbidden: a hundred configurations cost hardly more than one.
            features = self._drawn(rng, missing + min(refused, LARGEST_BATCH))
            if self._forbidden:
                features = features[_none_holds(self._forbidden, features)][:missing]
            refused = 0 if len(features) else refused + missing + min(refused, LARGEST_BATCH)
            if refused > MOST_DRAWS:
                clauses = "; ".join(clause.text for clause in self._forbidden)
                raise SpaceError(
                    f"{refused} random configurations in a row were forbidden ({clauses}); relax the forbidden "
                    "clauses, or replace them with narrower ranges or conditions"
                )
            kept.append(features)
            missing -= len(features)
        if len(kept) == 1:
            return kept[0]
        return np.concatenate(kept) if kept else np.empty((0, self.d))

    def _drawn(self, rng: np.random.Generator, n: int) -> Array:
        return self._features(rng.random((n, self.d)))

    def drawn(self, rng: np.random.Generator) -> dict[str, Value]:
        """A random value of each hyperparameter, whether it is active or not."""
        return self._named(self._unconditional(rng.random((1, self.d))))[0]

    def _features(self, u: Array) -> Array:
        """Features of random configurations from uniform numbers ``u``, shape (n, d); changes ``u``."""
        return self._activated(self._unconditional(u))

    def _unconditional(self, u: Array) -> Array:
        for j, dim in self._priors:
            if dim.prior is not None:
                u[:, j] = dim.prior.quantile(u[:, j])
            elif dim.weights is not None:
                cumulated = np.cumsum(dim.weights)
                index = np.searchsorted(cumulated / cumulated[-1], u[:, j], side="right")
                u[:, j] = (index + 0.5) / len(dim.weights)
        return self._codec.decode(u)

    def default_values(self) -> dict[str, Value]:
        """The default configuration, with floats to the last bit."""
        active = self._activated(self._codec.canonical(self._defaults()))
        return self._named(np.where(np.isnan(active), math.nan, self._defaults()))[0]

    def _defaults(self) -> Array:
        return np.array([[dim.features([dim.default])[0] for dim in self.dimensions]])

    def default(self) -> Array:
        """Vector of the default configuration, shape (d,)."""
        features = self._defaults()
        vectors = self._codec.encode(self._activated(self._codec.canonical(features)))
        return vectors.reshape(self.d)

    # ------------------------------------------------------------------------------- identity and size

    def key(self, vector: Array) -> bytes:
        """Identity of a configuration: equal if and only if the values are equal.

        It depends on the values, not on the coordinates, because logarithms may differ in the last place between
        machines.
        """
        features = self._codec.decode(vector[np.newaxis])
        features[np.isnan(features)] = math.nan
        return features.tobytes()

    def size(self) -> float:
        """Upper bound of the number of configurations (exact without conditions and clauses); ``inf`` with floats."""
        return math.prod(dim.proposable_levels for dim in self.dimensions)

    def enumerate(self, limit: int = 100_000) -> Array | None:
        """Every valid configuration of a small discrete space, once.

        It extends partial configurations dimension by dimension, parents first, and drops forbidden ones as soon as
        possible. The work is bounded: a space with more than ``2 * limit`` partial configurations is too large.

        Parameters
        ----------
        limit
            The largest number of configurations to list.

        Returns
        -------
        Array or None
            Shape (m, d) with m <= ``limit``, without choices of weight zero; ``None`` if the space has a float or is
            too large.
        """
        if any(not dim.is_discrete for dim in self.dimensions):
            return None
        conditions = dict(self._conditions)
        features = np.full((1, self.d), math.nan)
        assigned: set[int] = set()
        for j in self._order:
            grown = self._grown(features, j, conditions.get(j), bound=2 * limit)
            if grown is None:
                return None
            assigned.add(j)
            # Each clause is evaluated once, when the last of its dimensions has a value.
            decided = [clause for clause in self._forbidden if j in clause.columns and clause.columns <= assigned]
            features = grown[_none_holds(decided, grown)]
        return self._codec.encode(features) if len(features) <= limit else None

    def _grown(self, features: Array, j: int, condition: Clause | None, *, bound: int) -> Array | None:
        """Each row once per value of dimension ``j`` if ``j`` is active; ``None`` for more than ``bound`` rows."""
        active = np.ones(len(features), dtype=np.bool_) if condition is None else condition.holds(features)
        dimension = self.dimensions[j]
        if not active.any():
            return features
        if dimension.proposable_levels > bound:
            return None
        alone = np.full((len(dimension.proposable), self.d), math.nan)
        alone[:, j] = dimension.proposable
        levels = alone[_none_holds([clause for clause in self._forbidden if clause.columns == {j}], alone), j]
        if active.sum() * len(levels) + (~active).sum() > bound:
            return None
        grown = np.repeat(features[active], len(levels), axis=0)
        grown[:, j] = np.tile(levels, int(active.sum()))
        return np.concatenate([features[~active], grown])


def _none_holds(clauses: Sequence[Clause], features: Array) -> Mask:
    free = np.ones(len(features), dtype=np.bool_)
    for clause in clauses:
        free &= ~clause.holds(features)
    return free


def _parents_first(d: int, conditions: Mapping[int, Clause]) -> list[int]:
    """All columns, each after the columns that its condition reads."""
    graph: dict[int, Sequence[Any]] = {j: sorted(conditions[j].columns) if j in conditions else () for j in range(d)}
    return list(TopologicalSorter(graph).static_order())
