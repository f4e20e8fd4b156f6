"""Methods that are asked for by name: each gives a whole plan with known sources, and a rate that was measured."""

import pytest

from advisor.catalog.models import local
from advisor.catalog.sources import sources
from advisor.data.stats import DataStats
from advisor.data.tokens import stats
from advisor.learn.lantern.base import base_dir
from advisor.learn.lantern.tasks import task
from advisor.plan import defaults
from advisor.plan.methods import FEW_WEIGHTS, METHODS


@pytest.mark.parametrize("name", METHODS)
def test_a_method_by_name_has_its_form_its_reasons_and_its_rate(name):
    shape, data = local(base_dir()), stats(task("voice").train, base_dir())
    adaptation, why = defaults.adaptation(name, shape, data)
    rate = defaults.learning_rate(adaptation, shape, data, 5.0, 8)

    assert isinstance(data, DataStats)
    assert adaptation == METHODS[name].adaptation
    assert {reason.source for reason in (*why.values(), rate.why)} <= set(sources())
    if adaptation.kind in FEW_WEIGHTS:
        assert rate.value == METHODS[name].small  # little data does not lower it: they would not learn
    elif METHODS[name].small:
        assert rate.value < METHODS[name].small
