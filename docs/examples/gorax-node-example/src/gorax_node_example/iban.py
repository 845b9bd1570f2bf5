"""The node type `example:iban`: checks the number of a bank account, and goes on accordingly."""

import re
from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Failed, Json, NodeContext, NodeKind, NodeSpec, Outcome, StepError

_FORM: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")


class Iban:
    """A control node: a pure function of its config, evaluated inline, whose outcome chooses the edges."""

    spec: Final = NodeSpec(
        name="example:iban",
        kind=NodeKind.CONTROL,
        title="Check an IBAN",
        description="Goes on along the edges labelled `valid` or `invalid`; the output is {iban, country}.",
        outcomes=lambda config: ("valid", "invalid"),
        schema={
            "type": "object",
            "properties": {
                "iban": {"type": "string", "minLength": 1, "description": "The number, with or without blanks."},
                "countries": {
                    "type": "array",
                    "items": {"type": "string", "pattern": "^[A-Z]{2}$"},
                    "minItems": 1,
                    "description": "The countries that are accepted; all of them if it is left out.",
                },
            },
            "required": ["iban"],
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        given = config["iban"]
        if not isinstance(given, str):  # a template may have become anything
            return Failed(StepError("type_error", "`iban` must be text."))
        iban = re.sub(r"\s", "", given).upper()
        country = iban[:2]
        valid = is_iban(iban) and country in config.get("countries", [country])
        return Completed({"iban": iban, "country": country}, outcome="valid" if valid else "invalid")


def is_iban(iban: str) -> bool:
    """Say whether the form and the check digits are right (ISO 13616)."""
    if not _FORM.fullmatch(iban):
        return False
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1
