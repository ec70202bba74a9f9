"""A claims file: what a published card claims, in our words, and how to check it. See docs/card.md."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from proofcard.bundle import bundled
from proofcard.config.schema import Part
from proofcard.config.serving import Flag
from proofcard.errors import Stop, Usage, one_line
from proofcard.files import read_bytes

FOLDER = "conf/claims"
_LARGEST = 1 << 18  # bytes of a claims file
_DEEPEST = 32
_MOST_ALIASES = 200  # a check that several claims share is written once

Number = bool | int | float | str | list[bool | int | float | str]


class Gpus(Part):
    """GPUs of a kind that no hardware profile describes: `capability` is 89 for SM89."""

    name: str
    number: int = Field(ge=1)
    capability: int
    memory_mib: int = Field(ge=1)


class Check(Part):
    """One way to check a claim.

    by `plan`: a formula over the plan of the audited recipe. by `card`: over the card's own numbers. by
    `document` and `measurement`: over the document of kind `of`. by `engine`: over the `findings` of what
    is checked before the profile `serving`, with other `flags`, starts on a hardware profile or `gpus`;
    `refusals` are those that stop it; `kv_scales` false leaves the checkpoint's KV scales out.

    `holds` is the formula, `evidence` the sentence to show, with formulas in braces. Without `holds`, the
    claim needs `command` on `hardware`; both are also shown if a document is missing.
    """

    by: Literal["plan", "card", "document", "measurement", "engine"]
    of: str | None = None
    holds: str | None = None
    evidence: str = ""
    serving: str | None = None
    hardware_profile: str | None = None
    gpus: Gpus | None = None
    flags: dict[str, Flag] = Field(default_factory=dict)
    kv_scales: bool = True
    command: str | None = None
    hardware: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.by in ("plan", "card") and not (self.holds and self.evidence):
            raise ValueError(f"a check by {self.by} needs holds and evidence")
        if self.by in ("document", "measurement") and self.command is None:
            raise ValueError(f"a check by {self.by} needs the command that makes the document")
        if self.holds and self.by in ("document", "measurement") and not (self.of and self.evidence):
            raise ValueError(f"a check by {self.by} needs of, the kind of document, and evidence")
        if self.by == "engine":
            if not (self.serving and self.holds and self.evidence):
                raise ValueError("a check by engine needs serving, holds and evidence")
            if (self.gpus is None) == (self.hardware_profile is None):
                raise ValueError("a check by engine needs either gpus or hardware_profile")
        return self


class Claim(Part):
    """A claim in our words. `numbers` are those that the card states, for formulas."""

    claim: str
    numbers: dict[str, Number] = Field(default_factory=dict)
    checks: tuple[Check, ...] = Field(min_length=1)


class Claims(Part):
    """All claims of a card, by section and name. `recipes` are those that the card is audited with.

    `names` are formulas over the plan that several claims refer to.
    """

    card: str
    source: str
    recipes: tuple[str, ...] = Field(min_length=1)
    names: dict[str, str] = Field(default_factory=dict)
    claims: dict[str, dict[str, Claim]]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        seen: set[str] = set()
        for _, name, _ in self.each():
            if name in seen:
                raise ValueError(f"two claims are called {name}")
            seen.add(name)
        return self

    def each(self) -> Iterator[tuple[str, str, Claim]]:
        """Section, name, claim, in the file's order."""
        for section, claims in self.claims.items():
            for name, claim in claims.items():
                yield section, name, claim


def read(path: Path) -> tuple[Claims, str]:
    """A claims file and its sha256.

    Raises:
        Usage: naming what is wrong with it.
    """
    try:
        content = read_bytes(path, path.parent, _LARGEST)
        return Claims.model_validate(_parsed(content)), hashlib.sha256(content).hexdigest()
    except FileNotFoundError:
        raise Usage(f"{path} does not exist: set claims=NAME, {_known()}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step)[:80] for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise Usage(f"{path} is not a claims file: {where + ': ' if where else ''}{message}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Usage(f"{path} is not a claims file: {one_line(error)[:200]}") from None
    except Stop as error:
        raise Usage(str(error)) from None


def _parsed(content: bytes) -> Any:
    """YAML of bounded depth, no key twice, no alias within what another alias repeats: that grows fast."""
    depth = aliases = 0
    anchored: list[bool] = []
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            if any(anchored) or aliases > _MOST_ALIASES:
                raise ValueError(f"the YAML alias *{event.anchor} is one too many: write the value out")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            anchored.append(event.anchor is not None)
            if depth > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchored.pop()
    return yaml.load(content, Loader=_NoKeyTwice)


class _NoKeyTwice(yaml.SafeLoader):
    """A claim that is overwritten by another of the same name would go unchecked."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ValueError(f"it has the key {key.value[:80]!r} twice")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def names() -> list[str]:
    """The claims files that come with the program."""
    return sorted(path.stem for path in bundled(FOLDER).glob("*.yaml"))


def _known() -> str:
    return f"one of {', '.join(names())}"


def chosen(requested: str | None, recipe: str) -> Path:
    """The claims file by name or path; by default the one that names the recipe.

    Raises:
        Usage: when there is none.
    """
    if requested is not None:
        return Path(requested) if requested.endswith(".yaml") else bundled(FOLDER) / f"{requested}.yaml"
    for name in names():
        path = bundled(FOLDER) / f"{name}.yaml"
        if recipe in read(path)[0].recipes:
            return path
    raise Usage(f"no claims file names recipe={recipe}: set claims=NAME, {_known()}, or claims=FILE.yaml")
