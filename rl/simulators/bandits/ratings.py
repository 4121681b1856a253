"""Movie ratings as a bandit: which movie for a user known by their factors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from rl.policy.arrays import FloatArray
from rl.simulators.bandits.contextual import ContextualBandit

_BLOCK = 4096  # users at a time, where all users times all items would not fit in memory


class Ratings(ContextualBandit):
    """A random user of a ratings file, one of its most rated movies to recommend.

    Description: M is the matrix of the users' ratings of the A most rated movies, 0 where a user has not rated one;
        users who have rated none of them are left out, and of two ratings the later line counts. With the singular
        value decomposition M ~ u s v^T, cut off after `rank` values, a user is known by u sqrt(s) and a movie by
        v sqrt(s).
    Observation space: `features` [1, rank], u sqrt(s) of the user; `items` [A], the movies by number of ratings, the
        most rated is 1; `mask` [A], all on.
    Action space: the position of the movie, 0 to A - 1.
    Reward: the reconstructed rating, u s v^T: linear in the features, without noise, 0 to 5 up to the cut.
    Starting state: a user drawn uniformly.
    Episode end: after each step.
    Who visits: `users` [B], their ids in the file.
    Information: `expected` and `best`, see `ContextualBandit`.
    Ceilings: exact, by `ceilings()`. MovieLens latest-small (569 users of its 20 movies): oracle 4.756, random 1.705,
        best fixed movie 2.467. With its 1,000 movies and rank 20 (610 users): 3.552, .366, 2.267. Generated ratings:
        4.820, 1.924, 2.418.
    Options: `ratings`, a DataFrame or the path of a CSV file with columns userId, movieId and rating, or None for a
        small generated one; `items`, how many movies; `rank`, at most the number of movies and of users.
    Source: the MovieLens environment of TF-Agents' bandits, which takes the file's first movies.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        ratings: pd.DataFrame | str | Path | None = None,
        items: int = 20,
        rank: int = 20,
    ) -> None:
        if ratings is None:
            frame = generated_ratings()
        else:
            frame = ratings if isinstance(ratings, pd.DataFrame) else pd.read_csv(ratings)
        matrix, self.movies, self._ids = rating_matrix(frame, items)
        if not 1 <= rank <= min(matrix.shape):
            raise ValueError(f"rank must be between 1 and {min(matrix.shape)} for {matrix.shape} ratings, got {rank}")
        self._contexts, self._factors = factors(matrix, rank)  # [U, rank], [rank, A]
        low, high = self._contexts.min(axis=0), self._contexts.max(axis=0)
        super().__init__(num_envs, items, low, high)

    def visit(self) -> tuple[FloatArray, FloatArray]:
        """See `ContextualBandit.visit`."""
        drawn = self.rng.integers(len(self._contexts), size=self.num_envs)
        self.users, features = self._ids[drawn], self._contexts[drawn]
        return features, features @ self._factors

    def ceilings(self) -> dict[str, float]:
        """See `ContextualBandit.ceilings`."""
        users = len(self._contexts)
        blocks = range(0, users, _BLOCK)
        best = sum((self._contexts[at : at + _BLOCK] @ self._factors).max(axis=1).sum() for at in blocks)
        by_movie = self._contexts.mean(axis=0) @ self._factors
        return {"oracle": float(best) / users, "random": float(by_movie.mean()), "fixed": float(by_movie.max())}


def rating_matrix(frame: pd.DataFrame, items: int) -> tuple[csr_array, tuple[int, ...], NDArray[Any]]:
    """Return the ratings [U, A] of the A = items most rated movies, 0 where unrated, and ids of movies and of users.

    Of movies rated equally often the one with the smaller id comes first.

    Raises:
        ValueError: a column is missing, or there are fewer movies.
    """
    missing = sorted({"userId", "movieId", "rating"} - set(frame.columns))
    if missing:
        raise ValueError(f"the ratings have no column {', '.join(missing)}; they have {', '.join(frame.columns)}")
    frame = frame.drop_duplicates(["userId", "movieId"], keep="last")
    counts = frame["movieId"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if not 1 <= items <= len(counts):
        raise ValueError(f"items must be between 1 and the {len(counts)} movies in the ratings, got {items}")
    movies = counts.index[:items]
    column = movies.get_indexer(pd.Index(frame["movieId"]))
    row, users = pd.factorize(frame["userId"][column >= 0], sort=True)
    rating = frame["rating"].to_numpy(np.float64)[column >= 0]
    matrix = csr_array((rating, (row, column[column >= 0])), shape=(len(users), items))
    return matrix, tuple(int(movie) for movie in movies), np.asarray(users)


def factors(matrix: csr_array, rank: int) -> tuple[FloatArray, FloatArray]:
    """Return u sqrt(s) [U, rank] and sqrt(s) v^T [rank, A] of the strongest singular values, strongest first."""
    if rank < min(matrix.shape) // 2:
        u, s, vt = svds(matrix, k=rank, v0=np.ones(min(matrix.shape)))
        u, s, vt = u[:, ::-1], s[::-1], vt[::-1]
    else:  # nearly all of them are wanted, which svds cannot give
        u, s, vt = np.linalg.svd(matrix.toarray(), full_matrices=False)
        u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    sign = np.where(vt.sum(axis=1) < 0, -1.0, 1.0)  # a convention
    return u * (sign * np.sqrt(s)), vt * (sign * np.sqrt(s))[:, None]


def generated_ratings(users: int = 200, movies: int = 40) -> pd.DataFrame:
    """Draw a small ratings table, always the same: tastes of rank 3, popular movies rated more often, in half stars."""
    rng = np.random.default_rng(0)
    taste = rng.standard_normal((users, 3)) @ rng.standard_normal((3, movies))
    stars = np.clip(np.round(2 * (3.5 + 0.6 * taste + 0.4 * rng.standard_normal(taste.shape))) / 2, 0.5, 5.0)
    rated = rng.random(taste.shape) < np.linspace(0.7, 0.1, movies)
    user, movie = np.nonzero(rated)
    return pd.DataFrame({"userId": user + 1, "movieId": movie + 1, "rating": stars[user, movie]})
