"""Network: a small student: one hidden layer, trained on probabilities rather than labels (Adam, cross-entropy)."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


class Network:
    """Inputs, a hidden layer of rectifiers, and a softmax over classes."""

    def __init__(self, inputs: int, classes: int, seed: int, hidden: int = 64) -> None:
        self._dice = np.random.default_rng(seed)
        shapes = ((inputs, hidden), (hidden,), (hidden, classes), (classes,))
        self._weights: list[Matrix] = [
            (self._dice.normal(0, np.sqrt(2 / shape[0]), shape) if len(shape) > 1 else np.zeros(shape)).astype(
                np.float32
            )
            for shape in shapes
        ]

    def fit(self, x: Matrix, targets: Matrix, steps: int = 1_200, batch: int = 64, rate: float = 3e-3) -> "Network":
        """Train towards target distributions (rows that sum to 1). Returns itself."""
        x, targets = x.astype(np.float32), targets.astype(np.float32)
        means = [np.zeros_like(each) for each in self._weights]
        squares = [np.zeros_like(each) for each in self._weights]
        for step in range(1, steps + 1):
            rows = self._dice.integers(0, len(x), batch)
            slopes = self._slopes(x[rows], targets[rows])
            slower = rate * (1 - step / (steps + 1))
            for weight, slope, mean, square in zip(self._weights, slopes, means, squares, strict=True):
                mean += 0.1 * (slope - mean)
                square += 0.001 * (slope**2 - square)
                weight -= slower * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        return self

    def probabilities(self, x: Matrix) -> Matrix:
        """Rows of class probabilities."""
        return _softmax(self._hidden(x.astype(np.float32)) @ self._weights[2] + self._weights[3])

    def _hidden(self, x: Matrix) -> Matrix:
        return np.maximum(x @ self._weights[0] + self._weights[1], 0)

    def _slopes(self, x: Matrix, targets: Matrix) -> tuple[Matrix, ...]:
        hidden = self._hidden(x)
        wrong = (_softmax(hidden @ self._weights[2] + self._weights[3]) - targets) / len(x)
        back = (wrong @ self._weights[2].T) * (hidden > 0)
        return x.T @ back, back.sum(0), hidden.T @ wrong, wrong.sum(0)


def _softmax(logits: Matrix) -> Matrix:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Matrix = weights / weights.sum(axis=1, keepdims=True)
    return found
