"""What the paper's figure 1 shows, read off its picture.

Source: Sun et al., NeurIPS 2025, figure 1, means of 20 trials; read by eye from the authors'
images, so to about 1 % of each axis.
"""

SHARES = tuple(i / 20 for i in range(11))
"""C_s."""

FIGURE: dict[str, dict[str, tuple[float, ...]]] = {
    "purified": {
        "raw": (49.8, 49.6, 49.2, 49.5, 49.2, 47.6, 43.6, 42.8, 38.0, 34.2, 30.6),
        "filtered": (50.0, 50.0, 50.0, 50.0, 50.0, 49.7, 49.5, 49.1, 47.5, 45.9, 42.8),
    },
    "magnitude": {
        "raw": (0.858, 0.768, 0.703, 0.660, 0.632, 0.611, 0.585, 0.597, 0.549, 0.530, 0.545),
        "filtered": (0.894, 0.855, 0.816, 0.783, 0.771, 0.751, 0.716, 0.708, 0.702, 0.680, 0.660),
    },
    "accuracy": {
        "raw": (0.98, 0.965, 0.942, 0.930, 0.898, 0.871, 0.816, 0.797, 0.683, 0.640, 0.562),
        "filtered": (0.98, 0.966, 0.952, 0.945, 0.931, 0.905, 0.905, 0.872, 0.829, 0.784, 0.717),
    },
    "silhouette": {
        "raw": (0.098, 0.095, 0.090, 0.085, 0.083, 0.078, 0.068, 0.064, 0.049, 0.042, 0.030),
        "filtered": (0.102, 0.101, 0.099, 0.098, 0.097, 0.095, 0.094, 0.089, 0.080, 0.078, 0.067),
    },
}
"""By measure, then by arm."""
