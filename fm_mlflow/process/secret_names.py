"""Which names say that their value is a secret, and which values are too common to be one."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NAMESPACES = re.compile(r".*[./:]", re.DOTALL)

_SECRETS = {
    *("password", "passwd", "passphrase", "passcode", "pass", "pwd", "secret", "secrets"),
    *("token", "apikey", "credential", "credentials", "cred", "creds", "jwt", "pat", "sas"),
    *("cookie", "cookies", "bearer", "authorization", "csrf", "sessionid"),
}
# Written as one word with what it is a password for: PGPASSWORD, AUTHTOKEN.
_PASSWORD_ENDINGS = ("password", "passwd", "passphrase", "passcode", "secret")
_SECRET_ENDINGS = (*_PASSWORD_ENDINGS, "token", "apikey", "accesskey")
_PASSWORDS = {
    *_PASSWORD_ENDINGS,
    *("pwd", "secrets", "credential", "credentials", "cred", "creds"),
}
"""Of which a number of any length may be one."""

_SECRETS_LAST = {"pin", "otp", "totp"}
"""Which are none in `pin_memory`; a number of any length may be one, too."""

# A key may be one of a table or a dictionary as well.
_SECRET_KEYS = {
    *("access", "account", "admin", "api", "auth", "client", "deploy", "encryption", "fernet"),
    *("hmac", "master", "priv", "private", "secret", "service", "shared", "signing", "ssh"),
    *("storage", "subscription"),
}
_OPEN_KEYS = {
    *("cache", "foreign", "group", "host", "index", "metric", "partition", "primary", "pub"),
    *("public", "routing", "sort"),
}
_SECRET_PAIRS = {
    *(("connection", "string"), ("odbc", "connect"), ("x", "signature")),
    *((name, "code") for name in _SECRETS_LAST),
    *((name, "auth") for name in ("basic", "docker", "npm", "proxy", "redis", "rediscli")),
}

# What a name asks or says about a secret, instead of being it: USE_TOKEN, TOKEN_FILE, max_token.
_ABOUT_FIRST = {
    *("allow", "disable", "enable", "has", "is", "max", "min", "no", "num", "require", "use"),
    *("bos", "cls", "eos", "mask", "pad", "sep", "unk"),  # of a language model's vocabulary
}
_COUNTED_FIRST = {"max", "min", "num", "bos", "cls", "eos", "mask", "pad", "sep", "unk"}
"""Of those words, the ones before a number: `model.max_token`."""
_ABOUT_LAST = {
    *("count", "dir", "enabled", "endpoint", "expiration", "expiry", "file", "format", "header"),
    *("helper", "id", "length", "limit", "mode", "name", "parallelism", "path", "prompt"),
    *("provider", "size", "sock", "store", "timeout", "ttl", "type", "uri", "url"),
}

# What a number measures that is named after tokens or passes of a model: `token_dim`.
_MEASURES = {
    *("alpha", "batch", "beta", "bins", "blocks", "capacity", "channels", "clip", "decay", "depth"),
    *("dim", "dimension", "dimensions", "dims", "drop", "dropout", "embed", "embedding", "epochs"),
    *("epsilon", "factor", "filter", "filters", "gamma", "groups", "heads", "height", "hidden"),
    *("keep", "kernel", "lambda", "layers", "lr", "mixer", "mixing", "momentum", "patches"),
    *("positions", "rank", "rate", "ratio", "scale", "shape", "sizes", "steps", "stride"),
    *("strides", "temperature", "threshold", "units", "vocab", "vocabulary", "warmup", "weight"),
    *("weights", "width", "window"),
}
# What is a token or a pass of a model: `low_pass`, `class_token`.
_OF_MODELS = {
    *((kind, "pass") for kind in ("backward", "band", "forward", "high", "low", "multi", "single")),
    *((kind, "token") for kind in ("class", "distillation", "end", "image", "patch", "start")),
}
_WORDS_OF_MODELS = {"token", "pass"}
"""The words of secrets that models have, too."""
_WORDS_OF_ACCOUNTS = {
    *("access", "account", "admin", "api", "auth", "client", "db", "id", "login", "private"),
    *("refresh", "security", "session", "user"),
}
"""Beside which they are those of a person or a service: `access_token`."""
_PASSWORD_PAIRS = {("pass", "phrase"), ("pass", "word"), ("pass", "code"), ("pass", "wd")}

_NUMBER = r"[+-]?(?:\d{1,7}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?"
_NUMBERS = re.compile(rf"[\[(]?\s?{_NUMBER}(?:[,x]\s?{_NUMBER}){{0,15}},?\s?[\])]?")

_NO_VALUES = {
    *("true", "false", "yes", "no", "on", "off", "none", "null", "nil", "undefined", "empty"),
    *("auto", "default", "required", "optional", "missing", "expired", "invalid", "wrong"),
    *("set", "unset", "enabled", "disabled", "received"),
}
_COMMON_VALUES = _NO_VALUES | {
    *("admin", "administrator", "root", "user", "username", "guest", "test", "tester", "public"),
    *("password", "passwd", "secret", "token", "basic", "bearer", "changeme", "example"),
    *("mlflow", "postgres", "mysql", "minio", "localhost", "development", "production"),
}

_SHORTEST = 4
_SHORTEST_NUMBER = 6
_FEWEST_CHARACTERS = 3


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Tell whether a variable, option, header or tag of this name holds a secret.

    Examples:
        >>> is_secret_name("PGPASSWORD"), is_secret_name("clientSecret"), is_secret_name("GH_PAT")
        (True, True, True)
        >>> is_secret_name("USE_TOKEN"), is_secret_name("PUBLIC_KEY"), is_secret_name("PWD")
        (False, False, False)
    """
    words = _words(name)
    if words[-3:] == ["access", "key", "id"]:  # the half of a pair that says whose it is
        return True
    if not words or words[0] in _ABOUT_FIRST or words[-1] in _ABOUT_LAST:
        return False
    if words in (["pwd"], ["pass"], ["pat"]):  # the working directory, a result, an expression
        return False
    if any(map(_is_secret_word, words)) or words[-1] in _SECRETS_LAST:
        return True
    before = words[-2] if len(words) > 1 else ""
    if words[-1] == "key":
        # Of variables that are named so, most are secrets; of other names, few.
        return before in _SECRET_KEYS or (name.isupper() and before not in {"", *_OPEN_KEYS})
    return (before, words[-1]) in _SECRET_PAIRS or (words[0], words[-1]) in _SECRET_PAIRS


def is_secret(name: str, value: str) -> bool:
    """Tell whether a value that is kept under a name is a secret: by both.

    Under the name of a password or a PIN every number is one. Others are none of few digits, nor
    where the name says what they measure in a model.

    Examples:
        >>> is_secret("token", "abc123"), is_secret("pin", "482"), is_secret("password", "7")
        (True, True, True)
        >>> is_secret("model.token_dim", "1024"), is_secret("low_pass", "0.25")
        (False, False)
        >>> is_secret("token_dim", "abc123"), is_secret("access_token_dim", "48213")
        (True, True)
    """
    if not value or value.lower() in _NO_VALUES or not is_secret_name(name):
        return False
    return _is_of_password(name) or (is_stated(value) and not _is_measure(name, value))


def _is_of_password(name: str) -> bool:
    words = _words(name)
    is_one = any(word in _PASSWORDS or word.endswith(_PASSWORD_ENDINGS) for word in words)
    of_digits = not _SECRETS_LAST.isdisjoint(words[-2:])  # `pin`, `pin_code`
    return is_one or of_digits or not _PASSWORD_PAIRS.isdisjoint(pairwise(words))


def _is_measure(name: str, value: str) -> bool:
    """Tell whether the name of a secret says what numbers measure in a model, and there are some.

    `token_dim=1024`, `low_pass=0.25`, `model.max_token=2048`.
    """
    words, own = _words(name), _words(_NAMESPACES.sub("", name))
    if not own or not _NUMBERS.fullmatch(value) or not _WORDS_OF_ACCOUNTS.isdisjoint(words):
        return False
    if any(_is_secret_word(word) and word not in _WORDS_OF_MODELS for word in words):
        return False
    counts = own[0] in _COUNTED_FIRST and own[-1] in _WORDS_OF_MODELS
    return counts or own[-1] in _MEASURES or tuple(own[-2:]) in _OF_MODELS


def _words(name: str) -> list[str]:
    """Return the words of a name, without a number after them."""
    words = [word.lower() for word in _WORDS.findall(name)]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return words


def _is_secret_word(word: str) -> bool:
    return word in _SECRETS or word.endswith(_SECRET_ENDINGS)


def is_stated(value: str) -> bool:
    """Tell whether what stands after a secret's name is a value, and not `true`, `none` or 12."""
    return value.lower() not in _NO_VALUES and not (value.isdigit() and len(value) < _SHORTEST)


def is_telling(value: str) -> bool:
    """Tell whether a secret can be found by its value alone, without harming other text.

    It cannot where it is short, a number of few digits, a common word or one letter repeated.
    """
    shortest = _SHORTEST_NUMBER if value.isdigit() else _SHORTEST
    return (
        len(value) >= shortest
        and len(set(value)) >= _FEWEST_CHARACTERS
        and value.lower() not in _COMMON_VALUES
    )
