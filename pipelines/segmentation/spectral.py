"""Spectral clustering of an affinity matrix (Ng, Jordan, Weiss, NIPS 2001), and the eigengap."""

import warnings

import numpy as np
from jaxtyping import Float, Int

STARTS = 8


def sparsified(affinity: Float[np.ndarray, "P P"], neighbours: int) -> Float[np.ndarray, "P P"]:
    """Keep what is among the strongest links of either end; no self-links. Symmetric."""
    linked = affinity.copy()
    np.fill_diagonal(linked, 0)
    kept = min(neighbours, len(linked) - 1)
    weakest = -np.partition(-linked, kept - 1, axis=1)[:, kept - 1]
    linked[linked < weakest[:, None]] = 0
    return np.maximum(linked, linked.T)


def embedding(affinity: Float[np.ndarray, "P P"], dimensions: int) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "P d"]]:
    """Largest eigenvalues and eigenvectors of the normalised affinity D^-1/2 A D^-1/2, in falling order."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import eigsh

    root = np.sqrt(np.maximum(affinity.sum(1), 1e-9))
    normalised = csr_matrix(affinity / root[:, None] / root, dtype=float)
    values, vectors = eigsh(normalised, k=min(dimensions, len(affinity) - 1), v0=root.astype(float))
    return values[::-1], vectors[:, ::-1]


def spectral_clusters(vectors: Float[np.ndarray, "P d"], n_clusters: int, rng: np.random.Generator) -> Int[np.ndarray, " P"]:
    """k-means on the rows of the first `n_clusters` eigenvectors, scaled to unit length; the best of several starts."""
    from scipy.cluster.vq import kmeans2

    if n_clusters == 1:
        return np.zeros(len(vectors), int)
    rows = vectors[:, :n_clusters]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    best, lowest = np.zeros(len(rows), int), np.inf
    for _ in range(STARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty cluster: another start does better
            centres, labels = kmeans2(rows, n_clusters, minit="++", seed=rng)
        cost = ((rows - centres[labels]) ** 2).sum()
        if cost < lowest:
            best, lowest = labels.astype(int), cost
    return best
