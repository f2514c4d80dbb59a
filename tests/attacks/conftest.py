import pytest

from gradwire import data, models


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def model(digits):
    return models.build("convnet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
