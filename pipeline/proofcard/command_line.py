"""What a user meant by a command's words: bare names, options with dashes, inputs that do not exist.

All of it is found out before anything is imported that takes time, and before anything is read.
"""

from difflib import get_close_matches
from pathlib import Path

from proofcard.bundle import bundled
from proofcard.errors import Usage
from proofcard.files import plain
from proofcard.inputs import check_input
from proofcard.pasted import override, unquoted

_OF_A_RECIPE = ("audit", "fetch", "quantize", "run")
_OF_A_CHECKPOINT = (
    "agentic", "analyse", "benchmark", "card", "evaluate", "publish", "repeat", "reproduce", "serve", "sign",
    "verify",
)  # fmt: skip
"""Commands for which a bare word can only be the recipe, or the checkpoint."""
_SWEEPS = ("-m", "--multirun")
_SWEEPING = ("benchmark", "quantize")


def understood(command: str, words: list[str], inputs: bool = True) -> list[str]:
    """The words as `key=value`, after checking that named `inputs` exist.

    Raises:
        Usage: for a word that means nothing here, with what was probably meant; for a path that is missing,
            or is not what its key needs.
    """
    meant = []
    for place, word in enumerate(words):
        if word in _SWEEPS:
            if command not in _SWEEPING:
                raise Usage(f"{word}: several configurations are for {' and '.join(_SWEEPING)} alone")
        elif word.startswith("-"):
            raise Usage(_dashes(word, words[place + 1 :]))
        elif "=" not in word and not word.startswith("~"):
            word = _bare(command, word, words)
        meant.append(word)
    swept = any(word in _SWEEPS for word in meant)
    for word in meant if inputs else ():
        _check_input(word, swept)
    return meant


def _dashes(word: str, after: list[str]) -> str:
    """The sentence for `--key value`."""
    name, equals, value = word.lstrip("-").partition("=")
    if not equals and after and "=" not in after[0] and not after[0].startswith("-"):
        equals, value, word = "=", after[0], f"{word} {after[0]}"
    key = name.replace("-", "_")
    hint = f": write {override(key, value) if equals else f'{key}=VALUE'}" if key.isidentifier() else ""
    return f"{plain(word)} is not an option: settings have no dashes{hint} (--help lists what there is)"


def _bare(command: str, word: str, words: list[str]) -> str:
    """A word without a key, as `key=value`; the word itself where the command has a use for it."""
    given = {each.partition("=")[0] for each in words if "=" in each}
    alone = sum("=" not in each and not each.startswith(("-", "~")) for each in words) == 1
    recipes = sorted(path.stem for path in (bundled("conf") / "recipe").glob("*.yaml"))
    if command in _OF_A_RECIPE and "recipe" not in given and alone:
        if word in recipes:
            return f"recipe={word}"
        if Path(word).is_dir():
            raise Usage(
                f"{plain(word)} is a folder: write checkpoint=… or model.path=… in front of it, whichever it"
                " is"
            )
        near = get_close_matches(word, recipes, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(recipes)}"
        raise Usage(f"{plain(word)!r} is neither a recipe nor key=value: {hint}")
    if command in _OF_A_CHECKPOINT and not given & {"checkpoint", "endpoint", "manifest", "run"} and alone:
        if word.startswith("hf://") or "/" in word or Path(word).exists():
            return f"checkpoint={word}"
        made = Path("runs", "checkpoints", word)
        hint = override("checkpoint", made) if made.is_dir() else "checkpoint=DIR"
        raise Usage(f"{plain(word)!r} is neither a folder nor key=value: write {hint}")
    if command in ("compare", "plan"):
        return word  # they read bare words themselves
    hint = f"recipe={word}" if word in recipes else f"KEY={word}"
    raise Usage(f"{plain(word)!r} has no key: write key=value, such as {hint}")


def _check_input(word: str, swept: bool) -> None:
    """Raise Usage where an input that a word names is missing, or is something else."""
    key, _, value = word.partition("=")
    if value in ("null", "") or "${" in value or value.startswith(("hf://", "[", "{")):
        return
    if not swept or "," not in value:
        check_input(key.lstrip("+"), Path(unquoted(value)).expanduser())
