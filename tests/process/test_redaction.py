"""Secrets stay out of texts and logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.redaction import one_line, redact, redact_logs


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
    ],
)
def test_passwords_in_uris_are_hidden(text: str, safe: str) -> None:
    assert redact(text) == safe


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
    assert one_line(TrackingError("no answer")) == "no answer"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert one_line(ValueError()) == "ValueError"
    graph = RuntimeError(
        'Graph execution error:\n\nFile "a.py", line 3\n\nBad shapes\n\t [[{{n}}]]'
    )
    assert one_line(graph) == "RuntimeError: Graph execution error: Bad shapes"


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
