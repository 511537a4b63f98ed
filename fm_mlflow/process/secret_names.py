"""Which names say that their value is a secret, and which values are too common to be one."""

from __future__ import annotations

import re
from functools import lru_cache

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_SECRETS = {
    *("password", "passwd", "passphrase", "passcode", "pass", "pwd", "secret", "secrets"),
    *("token", "apikey", "credential", "credentials", "cred", "creds", "jwt", "pat", "sas"),
    *("cookie", "cookies", "bearer", "authorization", "csrf", "sessionid"),
}
# Written as one word with what it is a password for: PGPASSWORD, AUTHTOKEN.
_SECRET_ENDINGS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey")

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
    *((name, "auth") for name in ("basic", "docker", "npm", "proxy", "redis", "rediscli")),
}

# What a name asks or says about a secret, instead of being it: USE_TOKEN, TOKEN_FILE, max_token.
_ABOUT_FIRST = {
    *("allow", "disable", "enable", "has", "is", "max", "min", "no", "num", "require", "use"),
    *("bos", "cls", "eos", "mask", "pad", "sep", "unk"),  # of a language model's vocabulary
}
_ABOUT_LAST = {
    *("count", "dir", "enabled", "endpoint", "expiration", "expiry", "file", "format", "header"),
    *("helper", "id", "length", "limit", "mode", "name", "parallelism", "path", "prompt"),
    *("provider", "size", "sock", "store", "timeout", "ttl", "type", "uri", "url"),
}

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
    words = [word.lower() for word in _WORDS.findall(name)]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    if words[-3:] == ["access", "key", "id"]:  # the half of a pair that says whose it is
        return True
    if not words or words[0] in _ABOUT_FIRST or words[-1] in _ABOUT_LAST:
        return False
    if words in (["pwd"], ["pass"], ["pat"]):  # the working directory, a result, an expression
        return False
    if any(word in _SECRETS or word.endswith(_SECRET_ENDINGS) for word in words):
        return True
    before = words[-2] if len(words) > 1 else ""
    if words[-1] == "key":
        # Of variables that are named so, most are secrets; of other names, few.
        return before in _SECRET_KEYS or (name.isupper() and before not in {"", *_OPEN_KEYS})
    return (before, words[-1]) in _SECRET_PAIRS or (words[0], words[-1]) in _SECRET_PAIRS


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
