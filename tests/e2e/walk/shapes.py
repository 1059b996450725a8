"""Transformations of flowers that the team shares."""

from sklearn.base import BaseEstimator, TransformerMixin


class Areas(BaseEstimator, TransformerMixin):
    """The areas of leaves, from their lengths and widths."""

    def fit(self, features, labels=None):
        return self

    def transform(self, features):
        return features[:, ::2] * features[:, 1::2]
