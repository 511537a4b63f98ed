"""Secrets stay out of texts and logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.redaction import one_line, redact, redact_logs, redact_named


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("postgresql://ann:hunter22@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("mysql+pymysql://a:p@ss:w@db/x", "mysql+pymysql://a:***@db/x"),
        ("see https://ghp_abcdef@github.com/a/b.git", "see https://***@github.com/a/b.git"),
        ("http://127.0.0.1:5000/#/a?b=c@d", "http://127.0.0.1:5000/#/a?b=c@d"),
        ("sqlite:////home/a:b/c@d/mlflow.db", "sqlite:////home/a:b/c@d/mlflow.db"),
        ("mail ann@example.org", "mail ann@example.org"),
        ("postgresql://ann:pa/ss22word@db/x", "postgresql://ann:***@db/x"),
        ("mysql://db/x?user=ann&password=hunter22&a=b", "mysql://db/x?user=ann&password=***&a=b"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dx", "mssql+pyodbc:///?odbc_connect=***"),
        ("https://glpat:@git.example.org/a", "https://***:@git.example.org/a"),
        ("https://abc:x-oauth-basic@github.com/a", "https://***:***@github.com/a"),
        ("https://ann:p@ss@host.org/a", "https://ann:***@host.org/a"),
        ("https://ann:pa/ss@host.org/a", "https://ann:***@host.org/a"),
        ("https://ann:p@ss/w@host.org/a@b", "https://ann:***@host.org/a@b"),
        ("git+https://ann:pass@host.org/a.git@v1", "git+https://ann:***@host.org/a.git@v1"),
        ("https://host.org/@scope/pkg", "https://host.org/@scope/pkg"),
        ("redis://:secretpw@cache:6379/0", "redis://:***@cache:6379/0"),
        ("ssh://git@host.org/a.git", "ssh://git@host.org/a.git"),
        ("models:/digits@champion of http://h:5000", "models:/digits@champion of http://h:5000"),
        ('{"url":"db://a:secretpw@h/x","mail":"b@c"}', '{"url":"db://a:***@h/x","mail":"b@c"}'),
    ],
)
def test_passwords_in_uris_are_hidden(text: str, safe: str) -> None:
    assert redact(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("connect ann:hunter22@db.example.org", "connect ann:***@db.example.org"),
        ("Authorization: Bearer abc.def-1 refused", "Authorization: Bearer *** refused"),
        ("{'Authorization': 'Basic YW5uOnB3', 'a': 1}", "{'Authorization': 'Basic ***', 'a': 1}"),
        ("Authorization: Digest username=a, response=b\nnext", "Authorization: ***\nnext"),
        ("curl -H 'X-Api-Key: abcdef' x", "curl -H 'X-Api-Key: ***' x"),
        ("sent Bearer abc123def to it", "sent Bearer *** to it"),
        ("Bearer authentication is required", "Bearer authentication is required"),
        ("Cookie: a=b; session=c\nHost: d", "Cookie: ***\nHost: d"),
        ("Set-Cookie: sid=1; HttpOnly", "Set-Cookie: ***"),
        ("/callback?access_token=abc&state=x", "/callback?access_token=***&state=x"),
        ("grant&client_secret=abc&scope=x", "grant&client_secret=***&scope=x"),
        ("https://a.blob/x?sv=1&sig=ab%2Bc&se=2", "https://a.blob/x?sv=1&sig=***&se=2"),
        ("?X-Amz-Credential=AK/x&X-Amz-Signature=ff", "?X-Amz-Credential=***&X-Amz-Signature=***"),
        ("AccountName=a;AccountKey=bcd==;Suffix=c", "AccountName=a;AccountKey=***;Suffix=c"),
        ("train --password hunt --epochs 3", "train --password *** --epochs 3"),
        ("--api-key=hunt --token 'a b' c", "--api-key=*** --token '***' c"),
        ('{"password": "a \'b", "user": "c"}', '{"password": "***", "user": "c"}'),
        ('"{\\"db_password\\": \\"hunt\\"}"', '"{\\"db_password\\": \\"***\\"}"'),
        ("curl -u ann:hunt https://host", "curl -u ann:*** https://host"),
        ("machine h login ann password hunt", "machine h login ann password ***"),
        ("Uid=a;Pwd={a;b};Port=1", "Uid=a;Pwd=***;Port=1"),
        ("password: hunter22 was refused", "password: *** was refused"),
        ("password: swordfish", "password: ***"),
        ("export PGPASSWORD=x1; psql", "export PGPASSWORD=***; psql"),
        ("clientSecret=abc", "clientSecret=***"),
        ("user_pin=4821 pin: 123456", "user_pin=*** pin: ***"),
        ("train --model a.py:f?low_pass=hunter", "train --model a.py:f?low_pass=***"),
        ("pin=482, password=7 --otp 99", "pin=***, password=*** --otp ***"),
        ('{"password": "7", "model": "f?pwd=7"}', '{"password": "***", "model": "f?pwd=***"}'),
        ("found ghp_abcdefghijklmnop1234 here", "found *** here"),
        ("key AKIAIOSFODNN7EXAMPLE22", "key ***"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln.", "jwt ***."),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nmore",
            "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\nmore",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut off", "-----BEGIN PRIVATE KEY-----***"),
    ],
)
def test_secrets_are_hidden_by_their_form(text: str, safe: str) -> None:
    assert redact(text) == safe
    assert redact(safe) == safe


@pytest.mark.parametrize(
    "text",
    [
        "wrong password: the server answers 401",
        "use_token=true, password=None, token: 12, max_tokens=512",
        "PWD=/home/ann OLDPWD=/ PATH=/bin",
        "KeyError: 'x' in keyboard.py:12 at 10:30@x",
        "pad_token='[PAD]' key: loss metric_key=accuracy signature=ModelSignature()",
        "image:tag@sha256:0123456789abcdef mailto:somebody@example.org",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "skip-connections sk-learn hf_hub tokens=3 passed=5 pass=7",
        "a.py:f?low_pass=0.25&token_dim=1024 pin_memory=4096 spin=1024",
        "a.py:f?token_dim=1024,512,cnn?dense=64,b.py:f?token_dim=2048,a/b.py:f?width=3",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PGPASSWORD", "hunter22", "x hunter22 y"),
        ("GH_PAT", "a/b+c d", "x a%2Fb%2Bc%20d y"),
        ("GH_PAT", "a/b+c d", "x a%2Fb%2Bc+d y"),
        ("DB_PASS", 'quo"te\\d', 'x quo\\"te\\\\d y'),
        ("DATABASE_URL", "postgresql://ann:p%40sswd@db/x", "x p@sswd y"),
        ("HTTPS_PROXY", "http://ann:proxypw@proxy:3128", "x proxypw y"),
        ("PGSERVICE", "host=db user=ann password=libpq22", "x libpq22 y"),
        ("DOCKER_CONFIG_JSON", '{"auth": {"password": "injson"}}', "x injson y"),
        ("AZURE_CONNECTION_STRING", "AccountName=a;AccountKey=abc123==", "x abc123== y"),
        ("SHORT_TOKEN", "hunt", "x hunt y"),
    ],
)
def test_values_of_the_environment_are_hidden(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(name, value)
    assert redact(text) == "x *** y"


@pytest.mark.parametrize(
    "argument",
    [
        *("password=7", "pwd=7", "pin=482", "use_token=abc", "token_dim=abc", "token_dim=12345678"),
        *("db_password_hidden=1.5", "a.py=1", "width=12", "low_pass=0.25", "max_token=2048"),
        *("token=12", "pass_phrase=4711%208150", "token_heads=8,16", "token_heads=8,hunter22"),
    ],
)
def test_a_model_shows_no_argument_that_its_parameter_hides(argument: str) -> None:
    name, value = argument.split("=")
    safe = value if redact_named(f"model.{name}", unquote(value)) != "***" else "***"
    reference = f"my.py:build?width=8&{argument}&depth=2"
    assert redact_named("model", reference) == reference.replace(argument, f"{name}={safe}")


def test_a_secret_that_begins_or_overlaps_another_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, value in enumerate(("hunt", "hunter22", "er22-and-more", "hunting-season")):
        monkeypatch.setenv(f"TOKEN_{number}", value)
    assert redact("a hunt, a hunter22, hunter22-and-more") == "a ***, a ***, ***"
    assert redact("hunting for hunters") == "hunting for hunters"


def test_a_path_to_a_secret_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    assert redact(f"cannot read {tmp_path}") == f"cannot read {tmp_path}"


@pytest.mark.parametrize(("name", "value"), [("USE_TOKEN", "true"), ("DB_PASS", "yes")])
def test_common_values_stay(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert redact(f"it is {value}") == f"it is {value}"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "piece",
    [
        *(".", "/", "a.", "a/", "@", "://", "db://u:", "x://u:p@", "eyJ", "password=", 'token="'),
        *("?a=,", "&token_dim=1", "&a=,b:"),
        *("passwd='", "key: ", "-----BEGIN PRIVATE KEY-----", "a:bbbb@", "cookie:", "u://@a", "_"),
    ],
)
def test_the_time_does_not_grow_with_the_square_of_the_length(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    assert redact(f"{text} postgresql://ann:hunter22@db").count("hunter22") == 0


def test_a_value_is_hidden_by_its_name() -> None:
    assert redact_named("api_key", "anything") == "***"
    assert redact_named("note", "see db://a:secretpw@h") == "see db://a:***@h"
    assert redact_named("use_token", "true") == "true"


@pytest.mark.parametrize(
    "variable",
    [
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "MYSQL_PWD",
        "AZURE_STORAGE_CONNECTION_STRING",
    ],
)
def test_secrets_of_the_environment_are_hidden(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "s3cr3t-value")
    assert redact("header Bearer s3cr3t-value refused") == "header Bearer *** refused"


def test_an_error_becomes_one_safe_line() -> None:
    error = ValueError("\n cannot open db://a:longpass@h/x \n\n more")
    assert one_line(error) == "ValueError: cannot open db://a:***@h/x"
    assert one_line(TrackingError("no\nansw\x1b[2Jer")) == r"no\nansw\x1b[2Jer"
    assert one_line(TrackingError("no answer")) == "no answer"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert one_line(ValueError()) == "ValueError"
    graph = RuntimeError(
        'Graph execution error:\n\nFile "a.py", line 3\n\nBad shapes\n\t [[{{n}}]]'
    )
    assert one_line(graph) == "RuntimeError: Graph execution error: Bad shapes"


ADVICE = "could not be deserialized properly. Please ensure that components are explicit."


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "Exception encountered when calling A.call().\n\n\x1b[1mno such\nthing\x1b[0m\n\n"
            "Arguments received by A.call():\n  • x=1",
            "no such thing",
        ),
        (
            "Error when deserializing 'A' using config={'a': {}}.\n\nException encountered: B",
            "Error when deserializing 'A': B",
        ),
        (
            f"<class 'A'> {ADVICE}\n\nconfig={{'a': 1}}.\n\nException encountered: <class 'B'> "
            f"{ADVICE}\n\nconfig={{}}.\n\nException encountered: no C",
            "<class 'A'> could not be deserialized properly: no C",
        ),
        (
            "Could not locate class 'A'.\n\nFull object config: {'a': 1}",
            "Could not locate class 'A'.",
        ),
        (
            "Cannot infer the shape. Error encountered:\n\nno 'tf'",
            "Cannot infer the shape: no 'tf'",
        ),
        ("Layer 'a' failed. Exception encountered: ''no b''", "Layer 'a' failed: ''no b''"),
        (
            "\n  Object A was created by\n  passing B.\n\n  Example:\n\n  class A",
            "Object A was created by passing B.",
        ),
        (
            'in user code:\n\n    File "a.py", line 3, in call\n\n    ValueError: why\n',
            "in user code: ValueError: why",
        ),
        ("database is locked\n[SQL: select 1]\n(Background on this)", "database is locked"),
        ("a" * 300 + "b" * 600 + "c" * 300, "a" * 200 + " … " + "c" * 200),
    ],
)
def test_the_cause_is_found_wherever_a_library_puts_it(message: str, says: str) -> None:
    assert one_line(ValueError(message)) == f"ValueError: {says}"


@pytest.fixture
def _record_factory() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("_record_factory")
def test_log_records_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    redact_logs()
    logging.getLogger("some.library").warning("retrying %s", "http://a:secretpw@h/")
    assert caplog.messages == ["retrying http://a:***@h/"]


@pytest.mark.parametrize("variable", ["TOKENIZERS_PARALLELISM", "PWD", "OLDPWD"])
def test_what_only_looks_like_a_secret_stays(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "false")
    assert redact("it is false") == "it is false"


@pytest.mark.usefixtures("_record_factory")
def test_tracebacks_in_logs_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    redact_logs()
    try:
        raise ValueError("db://a:secretpw@h")
    except ValueError:
        logging.getLogger("some.library").exception("failed")
    assert "secretpw" not in caplog.text
    assert "db://a:***@h" in caplog.text


@pytest.mark.usefixtures("_record_factory")
def test_a_log_call_that_does_not_fit_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    redact_logs()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    record = logging.getLogger("x").makeRecord("x", 30, "f", 1, "bad %d", ("x",), None)
    assert record.msg == "bad %d"


@pytest.mark.usefixtures("_record_factory")
def test_the_filter_of_logs_is_installed_once() -> None:
    redact_logs()
    once = logging.getLogRecordFactory()
    redact_logs()
    assert logging.getLogRecordFactory() is once


@pytest.mark.usefixtures("_record_factory")
def test_no_message_forges_a_record_or_moves_the_cursor(caplog: pytest.LogCaptureFixture) -> None:
    redact_logs()
    logging.getLogger("some.library").warning("run %s", "x\nWARNING all is well\r\x1b[2K\x9b\u202e")
    assert caplog.messages == ["run x\n    WARNING all is well\n    \\x1b[2K\\x9b\\u202e"]
