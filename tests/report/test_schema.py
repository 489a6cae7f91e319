import json

import jsonschema
import pytest

from dropkit.study.result import to_json
from dropkit.study.schema import json_schema

from . import factory


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


def plain(result):
    return json.loads(json.dumps(to_json(result)))


@pytest.mark.parametrize("make", [factory.classification, factory.regression, factory.diverged, factory.single,
                                  factory.complete])
def test_results_keep_to_the_schema(make, validator):
    validator.validate(plain(make()))


@pytest.mark.parametrize("spoil", [
    lambda raw: raw.update(schema=1), lambda raw: raw.pop("verdict"), lambda raw: raw.update(extra=1),
    lambda raw: raw["runs"][0].update(seed="0"), lambda raw: raw["arms"][0]["recipe"].pop("members"),
    lambda raw: raw["contrasts"][0].update(mean=None)])
def test_what_is_not_a_result_does_not(spoil, validator):
    raw = plain(factory.classification())
    spoil(raw)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(raw)
