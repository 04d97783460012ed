"""What every part of the configuration is: frozen, closed, in snake_case or camelCase.

Must never: import more than pydantic; ``import spancast`` pays for it.
"""

from __future__ import annotations

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ConfigModel(BaseModel, frozen=True):
    """A part of the configuration: frozen, closed, in snake_case or camelCase."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=False,
        # A model is built when it is first used: most processes use one or two.
        defer_build=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    )
