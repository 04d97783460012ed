"""The base class of all configuration models.

Only pydantic is imported here, because ``import spancast`` imports this module.
"""

from __future__ import annotations

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ConfigModel(BaseModel, frozen=True):
    """A frozen configuration model without unknown fields, with names in snake_case or camelCase."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
        # Models are built on first use: most processes use one or two.
        defer_build=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    )
